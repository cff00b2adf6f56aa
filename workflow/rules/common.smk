# What the rules share. DVC decides whether a stage must run, Snakemake decides when and where: DVC is asked once, at
# the start, and each stale stage gets a marker file among its inputs. Parameters and sources are DVC's business.
import os
import re
import sys
from functools import partial
from pathlib import Path

from snakemake.exceptions import WorkflowError

from robustgen.captions import shown, write_captions
from robustgen.errors import UserError
from robustgen.pipeline import (
    Pipeline,
    ask_dvc,
    marker,
    own_programs_first,
    scales,
    use_hardlink_locks,
    way_on,
    write_markers,
)

sys.path.append(str(Path(workflow.basedir, "workflow/scripts")))
from gpus import visible
from supervise import lead

own_programs_first()
lead()
if (
    workflow.is_main_process
    and workflow.local_exec
    and "gpu" not in workflow.global_resources
):
    workflow.register_resource("gpu", max(1, len(visible(os.environ))))


def load_pipeline():
    """Ask DVC in the main process; the processes of single jobs read its answer."""
    if not workflow.is_main_process:
        return Pipeline.load()
    try:
        if "hardlink_lock" in config:
            use_hardlink_locks(config["hardlink_lock"])
        found = ask_dvc()
    except UserError as error:
        raise WorkflowError(str(error)) from None
    found.save()
    write_markers(found)
    return found


PIPELINE = load_pipeline()
MAKER = {path: stage for stage in PIPELINE.stages.values() for path in stage.outputs}
SHOWN = {
    pattern: result
    for patterns in PIPELINE.patterns.values()
    for pattern, result in shown(patterns).items()
}
if workflow.is_main_process and any(word.startswith("--report") for word in sys.argv):
    write_captions(Path("workflow/report/artifact.rst"), SHOWN.values())


def outputs(family):
    """Output patterns of a stage family; tables and figures are marked for the report.

    `update` keeps Snakemake from deleting them first: DVC looks at them, and leaves them where they are right.
    """
    return [mark(update(pattern)) for pattern in PIPELINE.patterns[family]]


def mark(pattern):
    if pattern == "results/{run}/report.html":
        return report(pattern, category="Report", labels=page_labels)
    if pattern not in SHOWN:
        return pattern
    result = SHOWN[pattern]
    return report(
        pattern,
        caption=os.path.abspath(result.caption_file),
        category=result.slug,
        labels=partial(result_labels, result),
    )


def page_labels(wildcards):
    return {"item": "All results on one page", "scale": wildcards.run}


def result_labels(result, wildcards):
    return result.labels(wildcards.run)


def runs(family):
    """Regular expression of a family's run ids (they contain slashes); matches nothing where there are none."""
    return "|".join(map(re.escape, PIPELINE.runs(family))) or "(?!)"


def inputs(family):
    """Input function: what other stages make for this one, and its marker where it is stale.

    Time stamps of what fresh stages made mean nothing (a checkout sets them); those of stale ones order the jobs.
    """

    def files(wildcards):
        stage = PIPELINE.stage(family, wildcards.run)
        made = [path if MAKER[path].stale else ancient(path) for path in stage.inputs]
        return made + [str(marker(stage))] * stage.stale

    return files


def threads_of(family):
    def count(wildcards):
        return PIPELINE.stage(family, wildcards.run).threads

    return count


def memory(megabytes):
    """Megabytes, twice as many at each retry, so that a job that was killed for memory gets what it needs."""

    def ask(wildcards, attempt):
        return megabytes * 2 ** (attempt - 1)

    return ask


def gpus_of(family):
    def count(wildcards):
        return PIPELINE.stage(family, wildcards.run).gpus

    return count


def report_of(scale):
    """Input function of a scale's target: its report, which depends on everything else of the scale."""

    def files(wildcards):
        if scale not in PIPELINE.runs("report"):
            raise WorkflowError(off(scale))
        return PIPELINE.stage("report", scale).outputs

    return files


def off(scale):
    if scale not in scales():
        return (
            f"no paper has a params file for scale {scale}: params/{scale}/<slug>.yaml"
        )
    return f"scale {scale} is off for every paper; {way_on(scale)}"
