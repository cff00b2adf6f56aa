"""Yoon, Hwang & Lee 2021: a score network purifies noisy copies of adversarial images within few steps."""

from robustgen.papers.base import Artifact, Paper

PAPER = Paper(
    slug="adp",
    title="Adversarial Purification with Score-based Generative Models",
    authors="Jongmin Yoon, Sung Ju Hwang, Juho Lee",
    year=2021,
    venue="ICML 2021",
    artifacts=(
        Artifact(
            name="table1",
            item="Table 1",
            kind="table",
            title="The attacks as implemented",
            caption="What every attack of the paper's Table 1 is set to here, and APGD, which is ours to add. Notes "
            "give its type, its updating rule with x the state, g the classifier, f the purification, s the score "
            "network and α the step, and what is done otherwise than in the paper. States are projected onto the L∞ "
            "ball and [0, 1]. An update of ours is a share of the radius: the paper's 2/255 of 8/255 is a quarter. "
            "The draws of EOT are those behind one gradient; as many draws as confirm a break predict. δ is the "
            "reach of SPSA's probes.",
        ),
        Artifact(
            name="table2",
            item="Table 2",
            kind="table",
            title="Attacks on the classifier alone",
            caption="Accuracy on natural images and under L∞ PGD on the classifier, which knows nothing of the "
            "purification. ADP's σ is that of the median heuristic (0.25 on CIFAR-10), its smaller one 0.1 in the "
            "paper; ours as the notes say. The paper's column holds its CIFAR-10 number; “borrowed” lines hold "
            "numbers that it takes from others and were not run here. Intervals are exact and cover the choice of "
            "test images, not of training or sampling seeds.",
        ),
        Artifact(
            name="table3",
            item="Table 3",
            kind="table",
            title="Adaptive attacks",
            caption="Accuracy on natural images and under L∞ attacks that know of ADP. Where ADP draws noise an "
            "image counts as broken only where fresh draws confirm it, and natural accuracy is that of as many "
            "draws. “The worst of all attacks” counts an image as right that withstands every one of them, over the "
            "images that all of them saw, and its natural accuracy one that is right in all their runs; where SPSA "
            "saw fewer, a second line leaves it out. APGD+EOT, the full gradient, the attack of radius 0, whose "
            "breaks are all false, and our own run of adversarial training are lines that the paper lacks; beside "
            "APGD+EOT as in the re-evaluation stands the number of Croce et al. 2022. The paper's column otherwise "
            "holds its CIFAR-10 number.",
        ),
        Artifact(
            name="table4",
            item="Table 4",
            kind="table",
            title="Common corruptions",
            caption="Accuracy on images under the fifteen common corruptions of Hendrycks & Dietterich at five "
            "severities: over all, and over those called noise, blur, weather and digital. An image's corruptions "
            "are one observation, so that n counts images and intervals, which keep a width where all images agree, "
            "cover the choice of them. The notes say whether the images are the official ones. “Detection”: images "
            "of small score norm take less noise, the threshold fitted on validation images. DCT and AugMix are what "
            "the score network was trained on besides. The paper's column holds its CIFAR-10-C number.",
        ),
        Artifact(
            name="extra",
            item="Sec. 5.1.5",
            kind="table",
            title="Other data sets",
            caption="ADP under BPDA+EOT on MNIST, Fashion-MNIST and CIFAR-100, where the scale has them, each at the "
            "radius that its note gives. The paper's text gives numbers for CIFAR-100 alone.",
        ),
        Artifact(
            name="fidelity",
            item="Released code",
            kind="table",
            title="The paper's choices and the released code's",
            caption="The released code takes δ = 1e-3 for 1e-5, stops by the step size instead of the score norm, "
            "and enters its pixel grid once but leaves it at every step, which stretches the contrast even where the "
            "score is 0, though clipping hides it on images that are black and white. Accuracies of either choice "
            "under the same attack, their difference in percentage points, and, on validation images under PGD on "
            "the classifier alone, those of the fixed step sizes that σ = 0 was tuned by.",
        ),
        Artifact(
            name="figure2",
            item="Figure 2",
            kind="figure",
            title="Accuracy against the number of purification steps",
            caption="Accuracy under BPDA after T purification steps: a score network trained by denoising score "
            "matching (DSM), and an energy-based model trained by maximum likelihood with MCMC (ML), each by "
            "deterministic updates and by Langevin updates. Step sizes are not tuned alike: DSM's was chosen, ML's "
            "is the one of its training. Bands are exact 95 % intervals over test images. The CSV has every line's "
            "settings.",
        ),
        Artifact(
            name="figure3",
            item="Figure 3",
            kind="figure",
            title="Score norms of natural, adversarial and purified images",
            caption="Histograms of the norm of the score network's output, of natural images and of images attacked "
            "by PGD on the classifier, and of both after one purification step without noise. Above: area under the "
            "ROC curve of the norm as a detector, with its 95 % interval (DeLong's; natural and attacked images are "
            "the same, and an image is the unit).",
        ),
        Artifact(
            name="figure4",
            item="Figure 4",
            kind="figure",
            title="Certified accuracy",
            caption="Share of test images whose class is certified and right out to an L2 radius, for ADP before the "
            "naturally trained classifier and for classifiers of ours trained with Gaussian noise as Cohen et al. "
            "do, of the architecture that ADP defends and not their ResNet-110. Solid: CERTIFY, with the bound of "
            "Clopper & Pearson, draws of its own for the choice of the class, and abstention; bands are its exact 95 "
            "% intervals over test images. Dashed: the paper's way, relative frequencies of one sample, which "
            "certify nothing. Neither reaches further than its n copies of an image let it (“at most”, CERTIFY / "
            "point estimate); the paper has 100. Dotted: the bound of Li et al. from the same frequencies.",
        ),
        Artifact(
            name="eot",
            item="Appendix D.3",
            kind="figure",
            title="Accuracy against the number of EOT draws",
            caption="Accuracy of ADP under attacks whose gradients are means over so many draws. Bands are exact 95 "
            "% intervals over test images. The paper's appendix is not at hand; its tables take 15 draws.",
        ),
        Artifact(
            name="samples",
            item="Score network",
            kind="figure",
            title="Samples of the score network",
            caption="Samples by annealed Langevin dynamics, clipped to [0, 1] for display; the CSV has their mean, "
            "spread and share outside. The paper shows none: they say whether the network has learned the data.",
        ),
        Artifact(
            name="levels",
            item="Eq. 10",
            kind="figure",
            title="Loss of the score network at its noise levels",
            caption="The denoising loss per pixel on validation images, at every noise level that the network was "
            "trained on. 1 is the loss of a network that returns 0.",
        ),
    ),
)
