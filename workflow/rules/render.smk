# Tables, figures and claims of each paper, and the page that shows them all.
rule robust_generative:
    input:
        inputs("robust-generative"),
    output:
        outputs("robust-generative"),
    log:
        "logs/robust-generative/{run}.log",
    wildcard_constraints:
        run=runs("robust-generative"),
    threads: threads_of("robust-generative")
    resources:
        gpu=gpus_of("robust-generative"),
        mem_mb=memory(4000),
        runtime=60,
    shell:
        "workflow/scripts/repro.sh robust-generative@{wildcards.run} {log} {resources.gpu}"


rule stochastic_security:
    input:
        inputs("stochastic-security"),
    output:
        outputs("stochastic-security"),
    log:
        "logs/stochastic-security/{run}.log",
    wildcard_constraints:
        run=runs("stochastic-security"),
    threads: threads_of("stochastic-security")
    resources:
        gpu=gpus_of("stochastic-security"),
        mem_mb=memory(4000),
        runtime=60,
    shell:
        "workflow/scripts/repro.sh stochastic-security@{wildcards.run} {log} {resources.gpu}"


rule adp:
    input:
        inputs("adp"),
    output:
        outputs("adp"),
    log:
        "logs/adp/{run}.log",
    wildcard_constraints:
        run=runs("adp"),
    threads: threads_of("adp")
    resources:
        gpu=gpus_of("adp"),
        mem_mb=memory(4000),
        runtime=60,
    shell:
        "workflow/scripts/repro.sh adp@{wildcards.run} {log} {resources.gpu}"


rule gat:
    input:
        inputs("gat"),
    output:
        outputs("gat"),
    log:
        "logs/gat/{run}.log",
    wildcard_constraints:
        run=runs("gat"),
    threads: threads_of("gat")
    resources:
        gpu=gpus_of("gat"),
        mem_mb=memory(4000),
        runtime=60,
    shell:
        "workflow/scripts/repro.sh gat@{wildcards.run} {log} {resources.gpu}"


rule e_abs:
    input:
        inputs("e-abs"),
    output:
        outputs("e-abs"),
    log:
        "logs/e-abs/{run}.log",
    wildcard_constraints:
        run=runs("e-abs"),
    threads: threads_of("e-abs")
    resources:
        gpu=gpus_of("e-abs"),
        mem_mb=memory(4000),
        runtime=60,
    shell:
        "workflow/scripts/repro.sh e-abs@{wildcards.run} {log} {resources.gpu}"


rule html_report:
    input:
        inputs("report"),
    output:
        outputs("report"),
    log:
        "logs/report/{run}.log",
    wildcard_constraints:
        run=runs("report"),
    threads: threads_of("report")
    resources:
        gpu=gpus_of("report"),
        mem_mb=memory(4000),
        runtime=30,
    shell:
        "workflow/scripts/repro.sh report@{wildcards.run} {log} {resources.gpu}"
