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
