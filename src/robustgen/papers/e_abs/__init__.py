"""Ju & Wagner 2020: classification by which class's decoder explains an image best, found by optimisation."""

from robustgen.papers.base import Artifact, Paper
from robustgen.papers.e_abs.words import LEVEL

ATTACKED = (
    "Share of test images that are right without attack and stay right. PGD is judged by the best iterate within the "
    "radius; the other attacks search for the nearest error, and an image is broken where its distance is within the "
    "radius. Against analysis by synthesis, gradients are those of Eq. 8, and an error that the attacker "
    "believes in is looked for by fresh inference and, once, judged by another, the one that judges clean images too: "
    "of many looks at inference that draws latents, one errs. “All” takes the worst of the paper's attacks image by "
    "image, each with its own judgement, “with ours” of every attack made. “Clean, by another inference” shows how "
    "much two of them differ. All models are judged on the same images, one training of each; intervals are exact and "
    "cover the choice of test images, not of training seeds. Values that the paper's source calls suspect are marked "
    "in the notes."
)


def attacked_on(dataset: str) -> str:
    """The caption of a table that repeats Table 1 on another data set."""
    return (
        f"The same five models with the paper's recipe for {dataset}, without attack, under every attack of either "
        "norm, and under the worst of them image by image; lines and settings mean what they do in Table 1."
    )


PAPER = Paper(
    slug="e-abs",
    title="E-ABS: Extending the Analysis-By-Synthesis Robust Classification Model to More Complex Image Domains",
    authors="An Ju, David Wagner",
    year=2020,
    venue="AISec 2020",
    artifacts=(
        Artifact(name="table1", item="Table 1", kind="table", title="Five models, MNIST", caption=ATTACKED),
        Artifact(
            name="table2",
            item="Table 2",
            kind="table",
            title="Five models, Fashion-MNIST",
            caption=attacked_on("Fashion-MNIST"),
        ),
        Artifact(
            name="table3",
            item="Table 3",
            kind="table",
            title="Five models, SuperTraffic-10",
            caption=attacked_on("SuperTraffic-10"),
        ),
        Artifact(name="table4", item="Table 4", kind="table", title="Five models, SVHN", caption=attacked_on("SVHN")),
        Artifact(
            name="mcnemar",
            item="Tables 1–4, McNemar",
            kind="table",
            title="Which differences between models are significant",
            caption="Accuracy of one model minus that of the other on the same images, in points, and McNemar's exact "
            "p-value of every pair, as it is and by Holm's method over the pairs of one line of Tables 1–4; "
            f"“significant”: 1 where the latter is below the paper's α = {LEVEL:g}, else 0, with what the paper says "
            "of all attacks of a norm together beside. The paper does not correct for the number of pairs.",
        ),
        Artifact(
            name="mcnemar-matrices",
            item="Tables 1–4, McNemar's matrices",
            kind="figure",
            title="P-values of McNemar's test",
            caption="McNemar's exact p-value of every pair of models, by Holm's method over the pairs of a matrix, on "
            "natural images and under all attacks of a norm together; on the diagonal accuracies, above it "
            f"differences in points, row − column. Framed: below α = {LEVEL:g}.",
        ),
        Artifact(
            name="table5",
            item="Table 5",
            kind="table",
            title="Every combination of the three extensions",
            caption="Accuracy without attack and under PGD in either norm. A: adversarial autoencoder; D: "
            "discriminative loss and shared encoder; V: variational inference by the same networks. The table of "
            "Sec. 4.3 says in what else their trainings differ. The paper names no radii; ABS's and E-ABS's numbers "
            "are those of its Table 4.",
        ),
        Artifact(
            name="table6",
            item="Table 6",
            kind="table",
            title="Samples of the expectation over transformations",
            caption="Accuracy of E-ABS under L∞ PGD by the number of samples that the attacker averages; beside it "
            "the share of the errors seen by the attacker that fresh inference does not confirm.",
        ),
        Artifact(
            name="table7",
            item="Table 7",
            kind="table",
            title="Random starts of PGD",
            caption="Accuracy of E-ABS under L∞ PGD by the number of random starts.",
        ),
        Artifact(
            name="table8",
            item="Table 8",
            kind="table",
            title="Steps of PGD",
            caption="Accuracy of E-ABS under L∞ PGD by the number of steps; 0 steps are natural images.",
        ),
        Artifact(
            name="table9",
            item="Table 9",
            kind="table",
            title="Networks as implemented",
            caption="Layers of E-ABS's encoder, decoders and discriminator, beside the paper's. Where the paper's "
            "numbers make no image of the data's size, or the data are others, ours differ.",
        ),
        Artifact(
            name="training",
            item="Sec. 4.3",
            kind="table",
            title="Training as it was",
            caption="Recipes of the models of Tables 1–4 and of the other networks of Table 5, beside the paper's. An "
            "autoencoder's loss is its reconstruction's cost, β times what keeps its latents near a standard normal "
            "(the discriminator's verdict, or without one the Kullback-Leibler divergence), and, with a discriminative "
            "loss, γ times the cross-entropy of the classes that its losses predict; noise σ is that of the images it "
            "is trained on. “Encoder alone”: accuracy on validation images, with its latents in place of inference.",
        ),
        Artifact(
            name="attacks",
            item="Sec. 4.2",
            kind="table",
            title="Attacks and inference as they were",
            caption="What the attacks on E-ABS were set to, and how it and ABS infer latents, beside the paper's "
            "settings. “Random starts” and “EOT runs” (latents that an attack averages gradients over: expectation "
            "over transformations) multiply its work; α is the level of McNemar's test. Radii are in pixel units; "
            "noise has values of σ for steps.",
        ),
        Artifact(
            name="gradient-free",
            item="Sec. 5, gradient-free attacks",
            kind="table",
            title="Attacks without gradients",
            caption="Accuracy of E-ABS under the Boundary attack and under PGD along estimated gradients, beside PGD "
            "along the gradients of Eq. 8 on the same images.",
        ),
        Artifact(
            name="bounds",
            item="Eq. 7",
            kind="table",
            title="Lower bounds of the L2 distance to an error",
            caption="ε* of Eq. 7 as Appendix A.2 proves it: no change of an image that is shorter than ε* is an error "
            "of exact inference. It grows with d_k, the L2 distance of the image from the nearest image that the "
            "decoder of another class k can make; optimisation finds a distance that is at least d_k, so that ε* is "
            "an estimate, perhaps too large. The mean is over images with a bound above 0. “Attacks below the bound” "
            "counts images that some attack broke by a change shorter than their ε*; a model of variational inference "
            "is outside the bound's assumptions, and its count is given apart.",
        ),
        Artifact(
            name="bound-distances",
            item="Eq. 7, by image",
            kind="figure",
            title="The nearest error beside its bound",
            caption="ε* of every image against the shortest L2 change by which an attack made it an error, confirmed "
            "by the model's own inference. Below the diagonal an error of exact inference contradicts the bound; one "
            "of variational inference is outside the bound's assumptions. Images that are errors without attack have "
            "no dot.",
        ),
        Artifact(
            name="sensitivity",
            item="Choices left open",
            kind="table",
            title="What the paper does not say",
            caption="Accuracy of E-ABS by choices that the paper leaves open, each alone; the first line is the one "
            "taken everywhere else.",
        ),
        Artifact(
            name="figure3",
            item="Figure 3",
            kind="figure",
            title="Accuracy under PGD by radius",
            caption="Accuracy of the five models under PGD of growing radius in either norm, with exact 95 % "
            "intervals over test images.",
        ),
        Artifact(
            name="figure4",
            item="Figure 4",
            kind="figure",
            title="Adversarial examples of E-ABS, MNIST",
            caption="Test images, the same under L2 PGD, with what E-ABS takes them for, and the change, enlarged. "
            "The first images that are right, not selected.",
        ),
        Artifact(
            name="figure5",
            item="Figure 5",
            kind="figure",
            title="Adversarial examples of E-ABS, SVHN",
            caption="As Figure 4.",
        ),
        Artifact(
            name="reconstructions",
            item="Reconstructions",
            kind="figure",
            title="An image of each class by every decoder",
            caption="The first test image of each class, and what the decoder of every class makes of it at its best "
            "latents, with the class's loss, by E-ABS and by ABS; the least loss decides.",
        ),
    ),
)
