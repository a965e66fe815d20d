"""The smallest study, to see one made: `python run.py -cd sweeps -cn smoke`, then `python -m experiments smoke --to smoke`."""

from dsd.results.study import Arm, Claim, Metric, Row, Study

TITLE = "Smoke: LeNet-300-100 on 5,000 digits"
ERROR = Metric("test/error1", "error on 1,000 test digits", "%", "lower")
STUDIES = (
    Study(
        name="smoke",
        title="DSD against fine-tuning",
        question="Four seeds and a few epochs: enough to see the report, not enough to say anything.",
        words=("experiment=dsd_lenet300_mnist", "profile=quick", "profiles.quick.dense=2", "profiles.quick.sparse=1",
               "profiles.quick.redense=1", "baseline_seed=${seed}"),
        arms=(
            Arm("baseline", ("method=baseline",), without=("baseline_seed", "profiles.quick.sparse", "profiles.quick.redense")),
            Arm("finetune", ("method=finetune",), "fine-tuning"),
            Arm("dsd", ("method=dsd",), "DSD, 50 %"),
        ),
        seeds=tuple(range(4)),
        metrics=(ERROR, Metric("val/error1", "error on 500 held out", "%", "lower")),
        rows=(Row("baseline", "baseline"), Row("fine-tuning", "finetune"), Row("sparse (not tested)", "dsd", 0), Row("DSD", "dsd")),
        claims=(
            Claim("DSD is better than its baseline", "dsd", "baseline", "paired t"),
            Claim("DSD is better than fine-tuning", "dsd", "finetune", "paired t"),
            Claim("DSD varies less than fine-tuning", "dsd", "finetune", "paired t", spread=True),
        ),
        sweeps=("python run.py -cd sweeps -cn smoke",),
        margin=0.5,
        decomposition=("dsd", "finetune", "baseline"),
    ),
)  # fmt: skip
