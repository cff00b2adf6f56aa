"""The `robustgen` command: one subcommand a stage family, and a few for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from robustgen.errors import UserError
from robustgen.lifeline import end_with_dvc, leave_tidily

STAGES = {
    "fetch": "read a data set, split it, write it as arrays",
    "train-classifier": "train a classifier, naturally or adversarially",
    "train-ebm": "train an energy-based model with persistent Langevin chains",
    "train-ncsn": "train a score network by denoising score matching",
    "train-gat": "train one detector a class against its own adversary (GAT)",
    "train-autoencoder": "train the autoencoders that E-ABS and ABS classify with",
    "train-joint": "train a classifier that is an energy-based model too: JEM, IGEBM",
    "attack": "attack a classifier and write the adversarial images",
    "detect": "fit detectors of adversarial images and score the test images",
    "interpret": "input gradients of classifiers, and images synthesised by following them",
    "purify": "attacked images through Langevin purification of several lengths",
    "defend": "attack a Langevin defence by BPDA+EOT over a grid of settings",
    "scores": "norms, samples and losses of a score network; the fixed step tuned on validation images",
    "defend-score": "attack a defence that purifies by a score, by any of the attacks on it",
    "certify": "count what noisy copies are classified as: randomised smoothing",
    "corrupt": "make the 15 common corruptions of the test images, or read CIFAR-10-C",
    "corruption-accuracy": "accuracy on corrupted images, with and without purification",
    "density": "densities of 1-D and 2-D data, learned by adversarial and by ordinary training",
    "attack-detectors": "attack every class' detector on its own, over a list of attacks",
    "defend-detectors": "attack a classifier with detectors, and detectors that classify, over a grid of attacks",
    "attack-synthesis": "attack analysis by synthesis (E-ABS, ABS), or a classifier, over a list of attacks",
    "distort": "the smallest L2 change that evades detectors, by binary search",
    "synthesize": "images that raise a class' logit: from natural images, from Gaussians, from noise",
    "dynamics": "what Langevin dynamics do: samples, chaos, distance to the data, time",
    "robust-generative": "tables, figures and claims of Beadini & Masi 2023",
    "stochastic-security": "tables, figures and claims of Hill, Mitchell & Zhu 2021",
    "adp": "tables, figures and claims of Yoon, Hwang & Lee 2021",
    "gat": "tables, figures and claims of Yin, Kolouri & Rohde 2020",
    "e-abs": "tables, figures and claims of Ju & Wagner 2020",
    "report": "one HTML page with everything a scale produced",
}
TOOLS = {
    "datasets": "list the data sets: known, present, where each would come from",
    "models": "list the published models: size, accuracy, licence of the data, where each is",
    "scale": "switch a paper on or off at the scale desktop or paper",
    "summary": "print a scale's headline numbers and where its report is",
}


def usage() -> str:
    width = max(map(len, STAGES | TOOLS))
    lines = [f"  {name:{width}}  {text}" for name, text in STAGES.items()]
    tools = [f"  {name:{width}}  {text}" for name, text in TOOLS.items()]
    return "\n".join(
        [
            "usage: robustgen COMMAND [OPTIONS]     (robustgen COMMAND --help lists the options)",
            "",
            "Stages of the pipeline; `snakemake --cores 2` runs them all in order, dvc.yaml says with which numbers:",
            *lines,
            "",
            "Tools:",
            *tools,
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0 done, 1 something the user can mend, 2 unknown command or option."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:  # in a process of its own
        leave_tidily()
        if "DVC_STAGE" in os.environ:  # started by DVC, whose end a stage must not outlive
            end_with_dvc()
    try:
        return dispatch(args)
    except BrokenPipeError:  # the reader of our output (`head`, `less`) has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def dispatch(args: Sequence[str]) -> int:
    """Choose what `args` ask for and run it; the exit status."""
    if not args or args[0] in ("-h", "--help"):
        print(usage())
        return 0 if args else 2
    if args[0] == "--version":
        from robustgen import __version__

        print(f"robustgen {__version__}")
        return 0
    if args[0] not in STAGES | TOOLS:
        print(f"error: unknown command {args[0]!r}\n\n{usage()}", file=sys.stderr)
        return 2
    try:
        run(args[0], args[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; run the same command again, a training resumes", file=sys.stderr)
        return 130
    return 0


def negated(word: str) -> str:
    """`--no-recipe.flip`, as DVC writes a nested false, in the form that tyro reads: `--recipe.no-flip`."""
    if not word.startswith("--no-") or "." not in word or "=" in word:
        return word
    above, _, name = word.removeprefix("--no-").rpartition(".")
    return f"--{above}.no-{name}"


def run(command: str, args: Sequence[str]) -> None:
    """Parse the options of `command` (tyro exits with status 2 where they are wrong) and run it."""
    import tyro

    module = import_module(f"robustgen.stages.{command.replace('-', '_')}")
    args = [negated(word) for word in args]
    args = module.shorthand(args) if hasattr(module, "shorthand") else args
    kind = module.options_type(args) if hasattr(module, "options_type") else module.Options
    options = tyro.cli(kind, prog=f"robustgen {command}", description=module.__doc__, args=args)
    if command in STAGES:
        from robustgen.records import recorded

        with recorded(command, args, options.out):
            module.run(options)
    else:
        module.run(options)


if __name__ == "__main__":
    sys.exit(main())
