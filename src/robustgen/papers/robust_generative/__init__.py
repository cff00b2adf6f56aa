"""Beadini & Masi 2023: a softmax classifier holds an energy-based model, and its energy gives attacks away."""

from robustgen.papers.base import Artifact, Paper

PAPER = Paper(
    slug="robust-generative",
    title="Exploring the Connection between Robust and Generative Models",
    authors="Senad Beadini, Iacopo Masi",
    year=2023,
    venue="Ital-IA 2023",
    artifacts=(
        Artifact(
            name="table1",
            item="Table 1",
            kind="table",
            title="Attack detection with the energy function",
            caption="Detection rate (DR), false positive rate (FPR) and area under the ROC curve (AUC) of detectors "
            "whose threshold is fitted on validation images. “Energy” maximises the G-mean at T = 1 as the "
            "paper says; “Energy released” tunes the temperature and maximises Youden's J as its code does. "
            "“APGD, threshold from PGD” is the unseen attack the paper speaks of; “APGD” is fitted on APGD, "
            "as its code does. DR counts every attacked image and FPR every clean one; APGD leaves an image "
            "alone that is misclassified already, so one line counts only those it changed. The paper's "
            "column holds its own line for the data set, and where it has none its CIFAR-10 line (eps "
            "8/255), for orientation; the notes say where each number stands. Intervals cover the choice of "
            "test images, not of training seeds or validation images.",
        ),
        Artifact(
            name="figure2a",
            item="Figure 2a",
            kind="figure",
            title="Energies of natural and PGD images",
            caption="Distribution of E(x) = −logsumexp of the logits over the test images, natural and under "
            "untargeted PGD, for the naturally trained classifier. Lower energy is higher likelihood under the hidden "
            "model.",
        ),
        Artifact(
            name="figure2b",
            item="Figure 2b",
            kind="figure",
            title="Energy and accuracy against the number of PGD steps",
            caption="Mean |E(x)| of the attacked test images with one standard deviation, after each number of PGD "
            "steps (0 is the random start), against the natural images' band; above the points, the accuracy.",
        ),
        Artifact(
            name="figure3a",
            item="Figure 3a",
            kind="figure",
            title="Energies of natural and HE-PGD images",
            caption="As Figure 2a under High-Energy PGD (Eq. 10), with the λ named above the panel.",
        ),
        Artifact(
            name="figure3b",
            item="Figure 3b",
            kind="figure",
            title="Energy and accuracy against the number of HE-PGD steps",
            caption="As Figure 2b under High-Energy PGD.",
        ),
        Artifact(
            name="figure4",
            item="Figure 4",
            kind="figure",
            title="Input gradients of a natural, a robust and a quasi-robust classifier",
            caption="∇ of the cross-entropy with respect to the input, each image scaled to its own 99th percentile. "
            "Density is the participation ratio ‖g‖₁²/(D‖g‖₂²) and alignment |cos(g, x)|, both of the margin's "
            "gradient, means over the test images with 95 % intervals in the CSV.",
        ),
        Artifact(
            name="synthesis",
            item="Section 5.3",
            kind="figure",
            title="Images synthesised by following each classifier's input gradient",
            caption="From the mean training image plus noise, normalised gradient steps up log p(y|x), one column a "
            "class. The number is the share of synthesised images in which an independently trained classifier "
            "sees the class that was asked for; being trained naturally, it can share the natural classifier's "
            "features that are not robust.",
        ),
    ),
)
