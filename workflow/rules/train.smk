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
    priority: 10  # everything else waits for them
    threads: threads_of("train-classifier")
    resources:
        gpu=gpus_of("train-classifier"),
        mem_mb=memory(8000),
        runtime=1440,
    shell:
        "workflow/scripts/repro.sh train-classifier@{wildcards.run} {log} {resources.gpu}"


rule train_classifier_tuned:
    input:
        inputs("train-classifier-tuned"),
    output:
        outputs("train-classifier-tuned"),
    log:
        "logs/train-classifier-tuned/{run}.log",
    wildcard_constraints:
        run=runs("train-classifier-tuned"),
    priority: 10  # everything else waits for them
    threads: threads_of("train-classifier-tuned")
    resources:
        gpu=gpus_of("train-classifier-tuned"),
        mem_mb=memory(8000),
        runtime=1440,
    shell:
        "workflow/scripts/repro.sh train-classifier-tuned@{wildcards.run} {log} {resources.gpu}"


rule train_ebm:
    input:
        inputs("train-ebm"),
    output:
        outputs("train-ebm"),
    log:
        "logs/train-ebm/{run}.log",
    wildcard_constraints:
        run=runs("train-ebm"),
    priority: 10  # everything else waits for them
    threads: threads_of("train-ebm")
    resources:
        gpu=gpus_of("train-ebm"),
        mem_mb=memory(8000),
        runtime=2880,
    shell:
        "workflow/scripts/repro.sh train-ebm@{wildcards.run} {log} {resources.gpu}"


rule train_joint:
    input:
        inputs("train-joint"),
    output:
        outputs("train-joint"),
    log:
        "logs/train-joint/{run}.log",
    wildcard_constraints:
        run=runs("train-joint"),
    priority: 10  # everything else waits for them
    threads: threads_of("train-joint")
    resources:
        gpu=gpus_of("train-joint"),
        mem_mb=memory(8000),
        runtime=2880,
    shell:
        "workflow/scripts/repro.sh train-joint@{wildcards.run} {log} {resources.gpu}"


rule train_ncsn:
    input:
        inputs("train-ncsn"),
    output:
        outputs("train-ncsn"),
    log:
        "logs/train-ncsn/{run}.log",
    wildcard_constraints:
        run=runs("train-ncsn"),
    priority: 10  # everything else waits for them
    threads: threads_of("train-ncsn")
    resources:
        gpu=gpus_of("train-ncsn"),
        mem_mb=memory(16000),
        runtime=5760,
    shell:
        "workflow/scripts/repro.sh train-ncsn@{wildcards.run} {log} {resources.gpu}"


rule train_gat:
    input:
        inputs("train-gat"),
    output:
        outputs("train-gat"),
    log:
        "logs/train-gat/{run}.log",
    wildcard_constraints:
        run=runs("train-gat"),
    priority: 10  # everything else waits for them
    threads: threads_of("train-gat")
    resources:
        gpu=gpus_of("train-gat"),
        mem_mb=memory(16000),
        runtime=5760,
    shell:
        "workflow/scripts/repro.sh train-gat@{wildcards.run} {log} {resources.gpu}"


rule train_gat_none:
    input:
        inputs("train-gat-none"),
    output:
        outputs("train-gat-none"),
    log:
        "logs/train-gat-none/{run}.log",
    wildcard_constraints:
        run=runs("train-gat-none"),
    priority: 10  # everything else waits for them
    threads: threads_of("train-gat-none")
    resources:
        gpu=gpus_of("train-gat-none"),
        mem_mb=memory(16000),
        runtime=2880,
    shell:
        "workflow/scripts/repro.sh train-gat-none@{wildcards.run} {log} {resources.gpu}"


rule train_autoencoder:
    input:
        inputs("train-autoencoder"),
    output:
        outputs("train-autoencoder"),
    log:
        "logs/train-autoencoder/{run}.log",
    wildcard_constraints:
        run=runs("train-autoencoder"),
    priority: 10  # everything else waits for them
    threads: threads_of("train-autoencoder")
    resources:
        gpu=gpus_of("train-autoencoder"),
        mem_mb=memory(16000),
        runtime=5760,
    shell:
        "workflow/scripts/repro.sh train-autoencoder@{wildcards.run} {log} {resources.gpu}"
