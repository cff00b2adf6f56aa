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
        mem_mb=memory(16000),
        runtime=240,
    shell:
        "workflow/scripts/repro.sh detect@{wildcards.run} {log} {resources.gpu}"


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
        mem_mb=memory(16000),
        runtime=240,
    shell:
        "workflow/scripts/repro.sh interpret@{wildcards.run} {log} {resources.gpu}"


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
        mem_mb=memory(16000),
        runtime=480,
    shell:
        "workflow/scripts/repro.sh purify@{wildcards.run} {log} {resources.gpu}"


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
        mem_mb=memory(16000),
        runtime=2880,
    shell:
        "workflow/scripts/repro.sh defend@{wildcards.run} {log} {resources.gpu}"


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
        mem_mb=memory(16000),
        runtime=480,
    shell:
        "workflow/scripts/repro.sh defend-none@{wildcards.run} {log} {resources.gpu}"


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
        mem_mb=memory(16000),
        runtime=480,
    shell:
        "workflow/scripts/repro.sh dynamics@{wildcards.run} {log} {resources.gpu}"


rule scores:
    input:
        inputs("scores"),
    output:
        outputs("scores"),
    log:
        "logs/scores/{run}.log",
    wildcard_constraints:
        run=runs("scores"),
    threads: threads_of("scores")
    resources:
        gpu=gpus_of("scores"),
        mem_mb=memory(16000),
        runtime=480,
    shell:
        "workflow/scripts/repro.sh scores@{wildcards.run} {log} {resources.gpu}"


rule defend_score:
    input:
        inputs("defend-score"),
    output:
        outputs("defend-score"),
    log:
        "logs/defend-score/{run}.log",
    wildcard_constraints:
        run=runs("defend-score"),
    threads: threads_of("defend-score")
    resources:
        gpu=gpus_of("defend-score"),
        mem_mb=memory(16000),
        runtime=2880,
    shell:
        "workflow/scripts/repro.sh defend-score@{wildcards.run} {log} {resources.gpu}"


rule certify:
    input:
        inputs("certify"),
    output:
        outputs("certify"),
    log:
        "logs/certify/{run}.log",
    wildcard_constraints:
        run=runs("certify"),
    threads: threads_of("certify")
    resources:
        gpu=gpus_of("certify"),
        mem_mb=memory(16000),
        runtime=2880,
    shell:
        "workflow/scripts/repro.sh certify@{wildcards.run} {log} {resources.gpu}"


rule certify_none:
    input:
        inputs("certify-none"),
    output:
        outputs("certify-none"),
    log:
        "logs/certify-none/{run}.log",
    wildcard_constraints:
        run=runs("certify-none"),
    threads: threads_of("certify-none")
    resources:
        gpu=gpus_of("certify-none"),
        mem_mb=memory(16000),
        runtime=480,
    shell:
        "workflow/scripts/repro.sh certify-none@{wildcards.run} {log} {resources.gpu}"


rule corruption_accuracy:
    input:
        inputs("corruption-accuracy"),
    output:
        outputs("corruption-accuracy"),
    log:
        "logs/corruption-accuracy/{run}.log",
    wildcard_constraints:
        run=runs("corruption-accuracy"),
    threads: threads_of("corruption-accuracy")
    resources:
        gpu=gpus_of("corruption-accuracy"),
        mem_mb=memory(16000),
        runtime=1440,
    shell:
        "workflow/scripts/repro.sh corruption-accuracy@{wildcards.run} {log} {resources.gpu}"


rule corruption_accuracy_none:
    input:
        inputs("corruption-accuracy-none"),
    output:
        outputs("corruption-accuracy-none"),
    log:
        "logs/corruption-accuracy-none/{run}.log",
    wildcard_constraints:
        run=runs("corruption-accuracy-none"),
    threads: threads_of("corruption-accuracy-none")
    resources:
        gpu=gpus_of("corruption-accuracy-none"),
        mem_mb=memory(16000),
        runtime=240,
    shell:
        "workflow/scripts/repro.sh corruption-accuracy-none@{wildcards.run} {log} {resources.gpu}"


rule density:
    input:
        inputs("density"),
    output:
        outputs("density"),
    log:
        "logs/density/{run}.log",
    wildcard_constraints:
        run=runs("density"),
    priority: 20  # long, and nothing waits for it: last, it would run alone
    threads: threads_of("density")
    resources:
        gpu=gpus_of("density"),
        mem_mb=memory(4000),
        runtime=480,
    shell:
        "workflow/scripts/repro.sh density@{wildcards.run} {log} {resources.gpu}"


rule attack_detectors:
    input:
        inputs("attack-detectors"),
    output:
        outputs("attack-detectors"),
    log:
        "logs/attack-detectors/{run}.log",
    wildcard_constraints:
        run=runs("attack-detectors"),
    threads: threads_of("attack-detectors")
    resources:
        gpu=gpus_of("attack-detectors"),
        mem_mb=memory(16000),
        runtime=1440,
    shell:
        "workflow/scripts/repro.sh attack-detectors@{wildcards.run} {log} {resources.gpu}"


rule defend_detectors:
    input:
        inputs("defend-detectors"),
    output:
        outputs("defend-detectors"),
    log:
        "logs/defend-detectors/{run}.log",
    wildcard_constraints:
        run=runs("defend-detectors"),
    threads: threads_of("defend-detectors")
    resources:
        gpu=gpus_of("defend-detectors"),
        mem_mb=memory(16000),
        runtime=1440,
    shell:
        "workflow/scripts/repro.sh defend-detectors@{wildcards.run} {log} {resources.gpu}"


rule distort:
    input:
        inputs("distort"),
    output:
        outputs("distort"),
    log:
        "logs/distort/{run}.log",
    wildcard_constraints:
        run=runs("distort"),
    threads: threads_of("distort")
    resources:
        gpu=gpus_of("distort"),
        mem_mb=memory(16000),
        runtime=1440,
    shell:
        "workflow/scripts/repro.sh distort@{wildcards.run} {log} {resources.gpu}"


rule synthesize:
    input:
        inputs("synthesize"),
    output:
        outputs("synthesize"),
    log:
        "logs/synthesize/{run}.log",
    wildcard_constraints:
        run=runs("synthesize"),
    threads: threads_of("synthesize")
    resources:
        gpu=gpus_of("synthesize"),
        mem_mb=memory(16000),
        runtime=480,
    shell:
        "workflow/scripts/repro.sh synthesize@{wildcards.run} {log} {resources.gpu}"


rule attack_synthesis:
    input:
        inputs("attack-synthesis"),
    output:
        outputs("attack-synthesis"),
    log:
        "logs/attack-synthesis/{run}.log",
    wildcard_constraints:
        run=runs("attack-synthesis"),
    threads: threads_of("attack-synthesis")
    resources:
        gpu=gpus_of("attack-synthesis"),
        mem_mb=memory(16000),
        runtime=2880,
    shell:
        "workflow/scripts/repro.sh attack-synthesis@{wildcards.run} {log} {resources.gpu}"
