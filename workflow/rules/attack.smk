# Attacks: adversarial images of the validation and test splits.
rule attack:
    input:
        inputs("attack"),
    output:
        outputs("attack"),
    log:
        "logs/attack/{run}.log",
    wildcard_constraints:
        run=runs("attack"),
    threads: threads_of("attack")
    resources:
        gpu=gpus_of("attack"),
        mem_mb=memory(8000),
        runtime=480,
    shell:
        "workflow/scripts/repro.sh attack@{wildcards.run} {log} {resources.gpu}"


rule corrupt:
    input:
        inputs("corrupt"),
    output:
        outputs("corrupt"),
    log:
        "logs/corrupt/{run}.log",
    wildcard_constraints:
        run=runs("corrupt"),
    threads: threads_of("corrupt")
    resources:
        gpu=gpus_of("corrupt"),
        mem_mb=memory(8000),
        runtime=240,
    shell:
        "workflow/scripts/repro.sh corrupt@{wildcards.run} {log} {resources.gpu}"
