"""Yin, Kolouri & Rohde 2020: one detector a class, trained against its own adversary, detects and classifies."""

from robustgen.papers.base import Artifact, Paper

ALIKE = " d1, images and intervals as in Table 1."
BAND = "Points with bars: exact 95 % intervals over test images, where 95 % of validation images are accepted."

PAPER = Paper(
    slug="gat",
    title="GAT: Generative Adversarial Training for Adversarial Example Detection and Robust Classification",
    authors="Xuwang Yin, Soheil Kolouri, Gustavo K. Rohde",
    year=2020,
    venue="ICLR 2020",
    artifacts=(
        Artifact(
            name="table1",
            item="Table 1",
            kind="table",
            title="Detectors under short and long attacks",
            caption="AUC of single detectors under PGD that begins at the image and takes its steps by Adam, as in "
            "training: short, and with more and smaller steps. The models are named by the norm and the relative size "
            "of their radius; notes give the radii. d1 is the detector of the first class. Positives are the clean "
            "images that the classifier f takes for the class, negatives the images that neither are of it nor taken "
            "for it, each attacked on its own; by labels alone these sets would differ by f's errors. Intervals are "
            "DeLong's on the logit scale and cover the choice of test images, not of training seeds; n counts "
            "positives and negatives.",
        ),
        Artifact(
            name="table2",
            item="Table 2",
            kind="table",
            title="Mean L2 distortion, trained from scratch",
            caption="Mean L2 length, in pixel units, of the least change found that makes the generative classifier "
            "accept an image of another class, at the threshold that accepts 95 % of validation images: binary search "
            "for the weight c of Eq. 21, each value with a run of unconstrained PGD of which every iterate counts; "
            "natural images that are such errors count as 0. The paper fits its threshold on test images. “FPR "
            "reached”: the share of images for which the search finds a change; the mean is over these. “Borrowed” is "
            "a number that the paper takes from others.",
        ),
        Artifact(
            name="table3",
            item="Table 3",
            kind="table",
            title="Fine-tuned detectors under various attacks",
            caption="AUC of single detectors of the main model under attacks of one radius with various numbers and "
            "sizes of steps, by normalised steepest descent from the image; notes give them." + ALIKE,
        ),
        Artifact(
            name="table4",
            item="Table 4",
            kind="table",
            title="Mean L2 distortion, fine-tuned",
            caption="As Table 2, of the fine-tuned detectors. The numbers of the paper's table are a picture; its "
            "abstract gives those beside.",
        ),
        Artifact(
            name="table5",
            item="Table 5",
            kind="table",
            title="Training setups as implemented",
            caption="What the detectors were trained with here, beside the paper's Table 5 and, for fine-tuning, its "
            "text. Radii and step sizes are in pixel units, of L2 balls the length of the whole change; a step size "
            "is Adam's learning rate where the adversary steps by Adam. Positives and negatives are images of each "
            "update. Learning rates beside ours are those of the released code, as the paper gives none.",
        ),
        Artifact(
            name="table6",
            item="Table 6",
            kind="table",
            title="Search for the distortion as implemented",
            caption="What binary search and PGD behind Tables 2 and 4 were set to here, beside the paper's settings. "
            "Step sizes are in pixel units; c is the weight of Eq. 21 for squared lengths in these units, 255² times "
            "that for pixels of 0 to 255; the threshold is a detector's logit and belongs to the detectors at hand.",
        ),
        Artifact(
            name="table7",
            item="Table 7",
            kind="table",
            title="Detectors under normalised steepest descent",
            caption="As Table 1, with steps along the sign of the gradient (L∞) or the gradient over its norm (L2)."
            + ALIKE,
        ),
        Artifact(
            name="table8",
            item="Table 8",
            kind="table",
            title="Detectors under attacks of other norms and radii",
            caption="AUC of single detectors of every model under short attacks in the balls of all models. An attack "
            "of a radius larger than the training's has no reason to be withstood." + ALIKE,
        ),
        Artifact(
            name="table9",
            item="Table 9",
            kind="table",
            title="Random restarts",
            caption="AUC of single detectors under an attack that begins at the image, and under the same attack from "
            "random points, of which the best counts, image by image." + ALIKE,
        ),
        Artifact(
            name="table10",
            item="Table 10",
            kind="table",
            title="All detectors, smaller radius",
            caption="AUC of every detector under the short attack of Table 1." + ALIKE,
        ),
        Artifact(
            name="table11",
            item="Table 11",
            kind="table",
            title="All detectors, larger radius",
            caption="As Table 10, of the larger radius. The numbers of the paper's table are not in its text." + ALIKE,
        ),
        Artifact(
            name="table12",
            item="Table 12",
            kind="table",
            title="Random restarts, fine-tuned",
            caption="As Table 9, of fine-tuned detectors." + ALIKE,
        ),
        Artifact(
            name="table13",
            item="Table 13",
            kind="table",
            title="Other norms and radii, fine-tuned",
            caption="AUC of single detectors of the main model under attacks in another norm and of a smaller radius."
            + ALIKE,
        ),
        Artifact(
            name="table14",
            item="Table 14",
            kind="table",
            title="The L2 model, fine-tuned",
            caption="AUC of detectors trained against L2, under L2 attacks of various numbers and sizes of steps."
            + ALIKE,
        ),
        Artifact(
            name="table15",
            item="Table 15",
            kind="table",
            title="All fine-tuned detectors, smaller radius",
            caption="AUC of every detector under the attack with the steps and the step size of its training or, where "
            "that was not made, under the one of the fewest steps; notes give it." + ALIKE,
        ),
        Artifact(
            name="table16",
            item="Table 16",
            kind="table",
            title="All fine-tuned detectors, larger radius",
            caption="As Table 15, of the larger radius." + ALIKE,
        ),
        Artifact(
            name="table17",
            item="Table 17",
            kind="table",
            title="The size of the training step",
            caption="AUC of the first detector of two models of one radius, trained with a fine and with a coarse "
            "step, under the shortest and the longest attack on the fine one: in the paper 10 steps of 0.5/255 and 40 "
            "of 0.1/255." + ALIKE,
        ),
        Artifact(
            name="table18",
            item="Table 18",
            kind="table",
            title="The ImageNet detector",
            caption="AUC of the detector of dogs in Restricted ImageNet under attacks of one radius with various "
            "numbers and sizes of steps." + ALIKE,
        ),
        Artifact(
            name="detection",
            item="Figures 3 and 5",
            kind="table",
            title="Detection and classification at one threshold",
            caption="Shares of all test images, at the threshold that accepts at least 95 % of the validation images, "
            "fitted for either way of detection. “TPR”: natural images that are accepted, rightly predicted or not "
            "(Eq. 10). “Standard accuracy”: rightly predicted and accepted (Eq. 18). “FPR = error”: wrongly predicted "
            "and accepted (Eqs. 11 and 19 are one number; on natural images, what is wrong without attack). The worst "
            "of all attacks is taken image by image over every attack made of that radius, for either way. The "
            "softmax classifier accepts everything and is attacked by PGD of cross-entropy and of the CW margin; "
            "beside it stands the paper's number for Madry et al.'s. “5 points of clean accuracy given up”: at the "
            "largest threshold at which the standard accuracy on validation images is at most so far below that "
            "without a threshold, as Tramèr et al. 2020 have it; beside the multi-targeted attacks at it stands 100 % "
            "less the robust accuracy that they found. Intervals are exact and cover the choice of test images.",
        ),
        Artifact(
            name="figure3",
            item="Figure 3",
            kind="figure",
            title="Detection and classification, trained from scratch",
            caption="(a) Share of natural images that are accepted against the share of attacked ones that are "
            "wrongly predicted and accepted, over all thresholds, of integrated and of generative detection under the "
            "attacks of Sec. 4.2 and the multi-targeted attacks of Tramèr et al. 2020. (b) Standard accuracy against "
            "error under attack at the trained and at a larger radius; crosses: a softmax classifier trained "
            f"adversarially. {BAND} The CSV has every point and its settings.",
        ),
        Artifact(
            name="figure4",
            item="Figure 4",
            kind="figure",
            title="Targeted perturbations, trained from scratch",
            caption="Natural images, one a column, moved towards every class, one a row, by raising the logit of its "
            "detector (above) or of a softmax classifier trained adversarially (below), within one radius. Images are "
            "the first of every class, not selected. The CSV has what an independent classifier and the nearest "
            "training image take them for.",
        ),
        Artifact(
            name="figure5",
            item="Figure 5",
            kind="figure",
            title="Detection and classification, fine-tuned",
            caption=f"As Figure 3, of the fine-tuned detectors. {BAND}",
        ),
        Artifact(
            name="figure6",
            item="Figure 6",
            kind="figure",
            title="Targeted perturbations, fine-tuned",
            caption="As Figure 4, of the fine-tuned detectors.",
        ),
        Artifact(
            name="figure7",
            item="Figure 7",
            kind="figure",
            title="Images generated from class Gaussians",
            caption="Samples of the Gaussian of every class' training images, moved up the class' logit within an L2 "
            "ball, for the detectors and for a softmax classifier trained adversarially, from the same samples. Not "
            "selected. The CSV has their logits and what an independent classifier takes them for.",
        ),
        Artifact(
            name="figure8",
            item="Figure 8",
            kind="figure",
            title="Losses against generative detection, trained from scratch",
            caption="Generative detection (a) and classification (b) under attacks by Eq. 14, cross-entropy and the "
            f"CW margin of the detectors' logits. {BAND}",
        ),
        Artifact(
            name="figure9",
            item="Figure 9",
            kind="figure",
            title="Logits of natural and perturbed images",
            caption="Distributions of a class' logit at its natural images, and at images of other classes perturbed "
            "towards it, of the detector and of the softmax classifier.",
        ),
        Artifact(
            name="figure10",
            item="Figure 10",
            kind="figure",
            title="Losses against generative detection, fine-tuned",
            caption=f"As Figure 8, of the fine-tuned detectors. {BAND}",
        ),
        Artifact(
            name="figure11",
            item="Figure 11",
            kind="figure",
            title="Logits of natural and generated images",
            caption="As Figure 9, with the images generated from the class' Gaussian.",
        ),
        Artifact(
            name="figure12",
            item="Figure 12",
            kind="figure",
            title="Training histories",
            caption="AUC on batches of training images and on validation images, clean and perturbed, at every check, "
            "of two models of different radius. The paper's test images are validation images here.",
        ),
        Artifact(
            name="figure13",
            item="Figure 13",
            kind="figure",
            title="Perturbations of one length",
            caption="The same natural images moved towards one class by the same L2 length, against the naturally "
            "trained classifier and against detectors of two radii.",
        ),
        Artifact(
            name="figure14",
            item="Figure 14",
            kind="figure",
            title="Images generated by the widest detectors",
            caption="As Figure 7, of the detectors of the largest training radius at hand; the title says whose where "
            "they stand in for those of the paper's 16/255.",
        ),
        Artifact(
            name="figure15",
            item="Figure 15",
            kind="figure",
            title="Generated dogs",
            caption="Samples of the Gaussian of Restricted ImageNet's dogs, moved up the logit of detectors of various "
            "training radii, within an L2 ball of one or more sizes each, and of a softmax classifier; titles give "
            "both.",
        ),
        Artifact(
            name="figure16",
            item="Figure 16",
            kind="figure",
            title="Perturbed dogs",
            caption="Natural images, and the same moved up the logit of the dog detector.",
        ),
        Artifact(
            name="figure18",
            item="Figure 18",
            kind="figure",
            title="More generated dogs",
            caption="All samples of the detector of the largest radius, those of Figure 15 among them.",
        ),
        Artifact(
            name="figure19",
            item="Figure 19",
            kind="figure",
            title="From noise to images",
            caption="One image of white noise moved up every class' logit without bound, for the detectors and for a "
            "softmax classifier; above each image its logit.",
        ),
        Artifact(
            name="figure20",
            item="Figure 20",
            kind="figure",
            title="One-dimensional densities",
            caption="A mixture of two Gaussians, what ordinary discriminative training makes of it, and what GAT "
            "does: Gibbs densities exp(logit)/Z on a grid of the domain, of several seeds. The negatives are uniform.",
        ),
        Artifact(
            name="figure21",
            item="Figure 21",
            kind="figure",
            title="Two-dimensional densities",
            caption="Data of two classes, the density of one of them, and the logits' Gibbs density after ordinary "
            "discriminative training and after GAT. The paper does not name its data sets, of 1000 points a class; "
            "these are common ones of that size, with a density that is known.",
        ),
    ),
)
