"""Hill, Mitchell & Zhu 2021: long-run Langevin sampling of an energy-based model purifies adversarial images."""

from robustgen.papers.base import Artifact, Paper

PAPER = Paper(
    slug="stochastic-security",
    title="Stochastic Security: Adversarial Defense Using Long-Run Dynamics of Energy-Based Models",
    authors="Mitch Hill, Jonathan Mitchell, Song-Chun Zhu",
    year=2021,
    venue="ICLR 2021",
    artifacts=(
        Artifact(
            name="table1",
            item="Table 1",
            kind="table",
            title="EBM defences against PGD on the base classifier",
            caption="Accuracy on natural images and on images attacked by L∞ PGD through the base classifier, which "
            "knows nothing of the purification: without it, after a short Langevin run (K = 10 in the paper) and after "
            "a long one (K = 1500); ours as the notes say. Logits are averaged over H chains an image. IGEBM and JEM "
            "purify before their own classifiers and are attacked through them. The line of the non-convergent EBM is "
            "ours to add. The paper's column holds its CIFAR-10 number. Intervals are exact and cover the choice of "
            "test images, not of training or sampling seeds.",
        ),
        Artifact(
            name="table2",
            item="Table 2",
            kind="table",
            title="Defences against white-box attacks",
            caption="Accuracy on natural images and under L∞ attacks. The EBM defence is attacked by BPDA+EOT "
            "(Algorithm 1): an image counts as broken only where H_def fresh chains confirm what H_adv chains showed, "
            "and natural accuracy is that of H_def chains too. Adversarial training is run and attacked by us on the "
            "same data. Further lines of ours: the same attack at radius 0, whose breaks are all false; PGD through "
            "few Langevin steps by their full gradient, beside BPDA+EOT on as few, which it can only confirm, since "
            "the energy is piecewise linear; PGD blind to the purification; PGD "
            "without any. “Borrowed” lines hold numbers that the paper takes from others and were not run here. "
            "The paper's column holds its CIFAR-10 number.",
        ),
        Artifact(
            name="table3",
            item="Table 3",
            kind="table",
            title="Defences on other data sets",
            caption="As Table 2, with the same parameters, on other data sets. Lines of SVHN and CIFAR-100 that hold "
            "the paper's number alone were not run at this scale or, where they say “borrowed”, are not the paper's "
            "own.",
        ),
        Artifact(
            name="figure2",
            item="Figure 2",
            kind="figure",
            title="Short- and long-run samples along training",
            caption="States of the persistent bank as training saw them (short run), and the same states after many "
            "more Langevin steps with the weights of that moment (long run). The model learns with Adam first and with "
            "SGD after. Pixels are clipped to [0, 1] for display only; the CSV has their mean, spread and share "
            "outside.",
        ),
        Artifact(
            name="figure3",
            item="Figure 3",
            kind="figure",
            title="Logits of the EOT defence for growing H",
            caption="Realisations of the mean logits of H chains of K Langevin steps, for the true class and the "
            "runner-up; dashed: the mean of all chains. Of the natural images that this mean has right, the "
            "borderline one has the smallest margin in units of its spread from chain to chain, the safe one the "
            "median. Means of H are drawn with replacement from the chains at hand with a fixed seed; above each "
            "panel the share of realisations that misclassify, over all classes.",
        ),
        Artifact(
            name="figure4",
            item="Figure 4",
            kind="figure",
            title="Accuracy against the number of Langevin steps",
            caption="Natural accuracy and accuracy under BPDA+EOT, breaks confirmed by H_def chains, for a convergent "
            "and a non-convergent EBM that differs in training only. K = 0 is the classifier alone. Bands are exact "
            "95 % intervals over test images. Below, where they were drawn, samples of either EBM after equally many "
            "steps from training images. Above each panel the attack's N, step, H_adv and H_def, and n; the CSV has "
            "them in full.",
        ),
        Artifact(
            name="figure5",
            item="Figure 5",
            kind="figure",
            title="Accuracy against the radius of L∞ and L2 attacks",
            caption="The EBM defence under BPDA+EOT, and classifiers adversarially trained on L∞ or L2 PGD under PGD. "
            "At radius 0 the accuracy on natural images. Bands are exact 95 % intervals. The paper's semi-supervised "
            "adversarial training needs unlabelled images and is left out. The legend has each attack's number of "
            "updates and n, the titles the other settings, the CSV all of them.",
        ),
        Artifact(
            name="figure6",
            item="Figure 6",
            kind="figure",
            title="Strength of attack and defence against their effort",
            caption="Left: share of images that are right and not yet broken after so many attack updates, a break "
            "counting from the update whose state H_def chains confirmed to be misclassified. Right: accuracy under "
            "the whole attack against the number of chains behind its gradients (H_adv) and behind a confirmation "
            "(H_def), the other one held. Bands are exact 95 % intervals. The legend has each attack's number of "
            "updates and n, the titles the other settings, the CSV all of them.",
        ),
        Artifact(
            name="figure7",
            item="Figure 7",
            kind="figure",
            title="Energies of natural, adversarial and noise images",
            caption="U(x) in nats, up to the constant log Z, under the convergent EBM. A random perturbation of every "
            "pixel by the attack's radius is the control that the paper lacks. Noise is uniform in [0, 1] and has a "
            "panel of its own where it lies far off.",
        ),
        Artifact(
            name="figure8",
            item="Figure 8",
            kind="figure",
            title="From order to chaos with the noise strength η",
            caption="Maximal Lyapunov exponent of the Langevin map with noise ητZ (Eq. 13) by Benettin's method: the "
            "mean rate at which two chains part that share their noise and are brought back to a fixed separation, "
            "mean over chains with 95 % interval; positive is chaotic. The network is piecewise linear, so that an "
            "infinitesimal separation would never grow: the exponent belongs to the separation named, in units of "
            "τ√D, the length of one step's noise; claims are about the first. Each has its own panel and scale. "
            "Right: samples at some η after the number of steps named, clipped to [0, 1] for display.",
        ),
        Artifact(
            name="figure9",
            item="Figure 9",
            kind="figure",
            title="FID against the number of Langevin steps",
            caption="Fréchet distance between the data and chains that start from data, in the features named above "
            "the panel: numbers in other features than Inception's do not compare with published FID. Dotted: the "
            "distance between two disjoint halves of the data.",
        ),
        Artifact(
            name="figure10",
            item="Figure 10",
            kind="figure",
            title="Steady-state samples and running time of three EBMs",
            caption="Samples after many Langevin steps from training images, clipped to [0, 1] for display; a chain "
            "that diverged is shown where it was last seen finite. Beside them the time of one Langevin step on a "
            "batch of 100 images on the machine of this run, on whose other cores other jobs may have run: IGEBM's is "
            "that of its sampler given one label, ours also by plain autograd, as the others are taken; ratios are to "
            "the latter where it was taken. The paper says 13 s for 1500 steps of its EBM on 100 "
            "images on an RTX 2070 Super, and 20 to 30 times as long for the two others; the CSV has ours beside it.",
        ),
    ),
)
