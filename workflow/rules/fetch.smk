# Data sets: official files in, split uint8 arrays out.
rule fetch:
    input:
        inputs("fetch"),
    output:
        outputs("fetch"),
    log:
        "logs/fetch/{run}.log",
    wildcard_constraints:
        run=runs("fetch"),
    threads: threads_of("fetch")
    resources:
        gpu=gpus_of("fetch"),
        mem_mb=memory(4000),
        runtime=60,
    shell:
        "workflow/scripts/repro.sh fetch@{wildcards.run} {log} {resources.gpu}"
