# The workflow: which stages run when, and with what resources. What they do is defined in dvc.yaml alone.
# `snakemake` makes scale `quick`, `snakemake desktop` and `snakemake paper` the others, `snakemake FILE` one result.
from snakemake.utils import min_version

min_version("9.0")


# The interpreter requirements.lock is made for. Used only with `--sdm apptainer`, then with a .venv that was built in it.
container: "docker://python:3.11"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


localrules:
    quick,
    desktop,
    paper,


rule quick:
    input:
        report_of("quick"),


rule desktop:
    input:
        report_of("desktop"),


rule paper:
    input:
        report_of("paper"),


include: "workflow/rules/fetch.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/attack.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/render.smk"


onsuccess:
    if workflow.is_main_process:
        for path in sorted(Path("results").glob("*/report.html")):
            print(f"report: {path}")


onerror:
    if workflow.is_main_process:
        print("A stage failed; its whole output is in logs/<family>/<run>.log.")
        print("After mending it, run the same command again: finished stages stay,")
        print("and a training goes on from its last checkpoint.")
