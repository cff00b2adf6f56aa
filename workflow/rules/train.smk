# Training: one rule per training algorithm. `runtime` is in minutes.
rule train_classifier:
    input:
        inputs("train-classifier"),
    output:
        outputs("train-classifier"),
    log:
        "logs/train-classifier/{run}.log",
    wildcard_constraints:
        run=runs("train-classifier"),
    threads: threads_of("train-classifier")
    resources:
        gpu=gpus_of("train-classifier"),
        mem_mb=8000,
        runtime=1440,
    shell:
        "workflow/scripts/repro.sh train-classifier@{wildcards.run} {log}"
