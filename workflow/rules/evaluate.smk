# What is measured on models and adversarial images.
rule detect:
    input:
        inputs("detect"),
    output:
        outputs("detect"),
    log:
        "logs/detect/{run}.log",
    wildcard_constraints:
        run=runs("detect"),
    threads: threads_of("detect")
    resources:
        gpu=gpus_of("detect"),
        mem_mb=16000,
        runtime=240,
    shell:
        "workflow/scripts/repro.sh detect@{wildcards.run} {log}"


rule interpret:
    input:
        inputs("interpret"),
    output:
        outputs("interpret"),
    log:
        "logs/interpret/{run}.log",
    wildcard_constraints:
        run=runs("interpret"),
    threads: threads_of("interpret")
    resources:
        gpu=gpus_of("interpret"),
        mem_mb=16000,
        runtime=240,
    shell:
        "workflow/scripts/repro.sh interpret@{wildcards.run} {log}"


rule purify:
    input:
        inputs("purify"),
    output:
        outputs("purify"),
    log:
        "logs/purify/{run}.log",
    wildcard_constraints:
        run=runs("purify"),
    threads: threads_of("purify")
    resources:
        gpu=gpus_of("purify"),
        mem_mb=16000,
        runtime=480,
    shell:
        "workflow/scripts/repro.sh purify@{wildcards.run} {log}"


rule defend:
    input:
        inputs("defend"),
    output:
        outputs("defend"),
    log:
        "logs/defend/{run}.log",
    wildcard_constraints:
        run=runs("defend"),
    threads: threads_of("defend")
    resources:
        gpu=gpus_of("defend"),
        mem_mb=16000,
        runtime=2880,
    shell:
        "workflow/scripts/repro.sh defend@{wildcards.run} {log}"


rule defend_none:
    input:
        inputs("defend-none"),
    output:
        outputs("defend-none"),
    log:
        "logs/defend-none/{run}.log",
    wildcard_constraints:
        run=runs("defend-none"),
    threads: threads_of("defend-none")
    resources:
        gpu=gpus_of("defend-none"),
        mem_mb=16000,
        runtime=480,
    shell:
        "workflow/scripts/repro.sh defend-none@{wildcards.run} {log}"


rule dynamics:
    input:
        inputs("dynamics"),
    output:
        outputs("dynamics"),
    log:
        "logs/dynamics/{run}.log",
    wildcard_constraints:
        run=runs("dynamics"),
    threads: threads_of("dynamics")
    resources:
        gpu=gpus_of("dynamics"),
        mem_mb=16000,
        runtime=480,
    shell:
        "workflow/scripts/repro.sh dynamics@{wildcards.run} {log}"
