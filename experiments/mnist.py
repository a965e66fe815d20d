"""Which part of DSD matters? Every arm, many paired seeds, on MNIST: networks small enough for it.

The mask, the choice of its weights, its being held, the restart of the rate, the reset of momentum, or more training.
"""

from dsd.results.study import Arm, Claim, Metric, Row, Study

TITLE = "MNIST: which part of Dense-Sparse-Dense matters?"

ERROR = Metric("test/error1", "error on the 10,000 test images", "%", "lower")
HELD_OUT = Metric("val/error1", "error on 5,000 held out", "%", "lower")
RATES = ("recipe.sparse.rate.rate", "recipe.redense.rate.rate")
COMMON = (
    "experiment=dsd_lenet300_mnist",
    "profile=cpu",
    "baseline_seed=${seed}",
    f"{RATES[0]}=0.001",
    f"{RATES[1]}=0.0001",
)
WHOLE = ("baseline_seed",)  # arms that are trained in one piece
NO_MASK = ("recipe.sparse.sparsity",)
ONE_PHASE = (*WHOLE, "recipe.reset_optimizer")
BASELINE = Arm("baseline", ("method=baseline",), "baseline, half the updates", without=(*ONE_PHASE, *NO_MASK, *RATES))
MARGIN = 0.05  # five of the 10,000 test digits

LENET300 = Study(
    name="lenet300",
    title="LeNet-300-100: 30 paired seeds, every arm",
    question="With the same seed and number of updates, what of DSD lowers the error: the mask, which weights it takes, "
    "holding it, the lowered rate, the reset of momentum, or more training?",
    words=(*COMMON, "recipe.sparse.sparsity=0.5", "recipe.reset_optimizer=true"),
    arms=(
        BASELINE,
        Arm("dense", ("method=dense",), "dense, base schedule throughout", without=(*ONE_PHASE, *NO_MASK)),
        Arm("finetune", ("method=finetune",), "fine-tuning at DSD's rates", without=NO_MASK),
        Arm("dsd", ("method=dsd",), "DSD, 50 %"),
        Arm("dsd_momentum", ("method=dsd", "recipe.reset_optimizer=false", "baseline_seed=null"), "DSD, momentum kept"),
        Arm("random_mask", ("method=random_mask",), "DSD, random mask"),
        Arm("prune_restore", ("method=prune_restore",), "pruned once, restored at once"),
        Arm("dsdsd", ("method=dsdsd",), "DSDSD"),
        Arm("llr", ("method=llr",), "lowered rate (LLR)", without=NO_MASK),
        Arm("swa", ("method=swa",), "weight averaging (SWA)", without=NO_MASK),
        Arm("early_prune", ("method=early_prune",), "pruned early, sparse to the end", without=WHOLE),
        Arm("sparse_scratch", ("method=sparse_scratch",), "sparse from scratch", without=ONE_PHASE),
    ),
    seeds=tuple(range(30)),
    metrics=(ERROR, HELD_OUT),
    rows=(
        Row("baseline, half the updates", "baseline", published=1.64),
        Row("dense, base schedule throughout", "dense"),
        Row("fine-tuning at DSD's rates", "finetune"),
        Row("DSD, 50 %", "dsd"),
        Row("DSD, momentum kept at the boundaries", "dsd_momentum"),
        Row("DSD, random mask", "random_mask"),
        Row("pruned once, restored at once", "prune_restore"),
        Row("DSDSD", "dsdsd"),
        Row("lowered rate (LLR)", "llr"),
        Row("weight averaging (SWA)", "swa"),
        Row("pruned early, sparse to the end", "early_prune"),
        Row("sparse from scratch", "sparse_scratch"),
    ),
    claims=(
        Claim(
            "More training: the base schedule, twice as long, is better than the baseline",
            "dense",
            "baseline",
            "paired t",
        ),
        Claim(
            "The lowered rate: fine-tuning at DSD's rates is better than the base schedule throughout",
            "finetune",
            "dense",
            "paired t",
        ),
        Claim("The mask: DSD is better than fine-tuning", "dsd", "finetune", "paired t"),
        Claim("Which weights: DSD is better than with a random mask", "dsd", "random_mask", "paired t"),
        Claim("Holding the mask: DSD is better than pruning once and restoring", "dsd", "prune_restore", "paired t"),
        Claim("The reset of momentum: DSD is better than with momentum kept", "dsd", "dsd_momentum", "paired t"),
        Claim("A second round: DSDSD is better than DSD", "dsdsd", "dsd", "paired t"),
        Claim("DSD is better than LLR, the paper's control", "dsd", "llr", "paired t"),
        Claim("DSD is better than weight averaging", "dsd", "swa", "paired t"),
        Claim("DSD is better than sparse from scratch", "dsd", "sparse_scratch", "paired t"),
        Claim("DSD is better than pruning early", "dsd", "early_prune", "paired t"),
        Claim("DSD varies less than fine-tuning", "dsd", "finetune", "paired t", spread=True),
    ),
    sweeps=(
        "python run.py -cd sweeps -cn lenet300 hydra/launcher=joblib hydra.launcher.n_jobs=2",
        "python run.py -cd sweeps -cn lenet300_momentum hydra/launcher=joblib hydra.launcher.n_jobs=2",
    ),
    margin=MARGIN,
    source="The published number is the dense reference of Han et al., NIPS 2015, Table 1; DSD was not published for this network.",
    notes=(
        "Every arm but the baseline makes the same number of updates (40 epochs of 55,000 images). What an arm costs is its cost at this "
        "budget: with a random mask the error still falls at the end (see the curves).",
        "Arms that go on from their seed's baseline see its 20 data orders again, all the same ones; the base schedule throughout, pruned "
        "early, sparse from scratch and DSD with momentum kept are trained in one piece and see new orders after those 20.",
    ),
    decomposition=("dsd", "finetune", "baseline"),
)


def at(sparsity: float) -> Study:
    """The arms with a mask at another sparsity, against the same fine-tuning."""
    percent = f"{100 * sparsity:g} %"
    own = (f"recipe.sparse.sparsity={sparsity:g}",)
    names = {"dsd": f"DSD, {percent}", "random_mask": "DSD, random mask", "prune_restore": "pruned once, restored at once",
             "dsdsd": "DSDSD", "early_prune": "pruned early, sparse to the end", "sparse_scratch": "sparse from scratch"}  # fmt: skip
    return Study(
        name=f"lenet300_{100 * sparsity:g}",
        title=f"LeNet-300-100 at {percent} sparsity",
        question=f"The same at {percent}: does the mask matter more when it takes {'fewer' if sparsity < 0.5 else 'more'} weights?",
        words=COMMON,
        arms=(BASELINE, Arm("finetune", ("method=finetune",), "fine-tuning at DSD's rates"),
              *(Arm(name, (f"method={name}", *own), label, without=WHOLE if name in ("early_prune", "sparse_scratch") else ())
                for name, label in names.items())),
        seeds=tuple(range(30)),
        metrics=(ERROR, HELD_OUT),
        rows=(Row("baseline, half the updates", "baseline"), Row("fine-tuning at DSD's rates", "finetune"),
              *(Row(label, name) for name, label in names.items())),
        claims=(
            Claim("The mask: DSD is better than fine-tuning", "dsd", "finetune", "paired t"),
            Claim("Which weights: DSD is better than with a random mask", "dsd", "random_mask", "paired t"),
            Claim("Holding the mask: DSD is better than pruning once and restoring", "dsd", "prune_restore", "paired t"),
            Claim("A second round: DSDSD is better than DSD", "dsdsd", "dsd", "paired t"),
        ),
        sweeps=("python run.py -cd sweeps -cn lenet300_sparsity hydra/launcher=joblib hydra.launcher.n_jobs=2",),
        margin=MARGIN,
        notes=(
            "Baselines and fine-tuning were trained anew for this study, with the 50 % study's seeds, data and orders on a processor that rounds "
            "differently; all arms of a seed start from the same weights (their SHA-256 is in the records).",
        ),
        decomposition=("dsd", "finetune", "baseline"),
    )  # fmt: skip


AGAIN = (f"{RATES[0]}=0.01", f"{RATES[1]}=0.001")  # ten times higher: the base schedule's first rate, and a tenth of it
RESTART = Study(
    name="lenet300_restart",
    title="LeNet-300-100: the restart of the rate",
    question="On ImageNet, DSD's sparse phase begins with a rate above the one that the dense phase ended with. Is that restart what helps, "
    "and does a mask help after it?",
    words=COMMON,
    arms=(
        BASELINE,
        Arm("finetune", ("method=finetune",), "fine-tuning at lowered rates"),
        Arm("restart", ("method=finetune", *AGAIN), "fine-tuning, the rate restarted"),
        Arm("dsd", ("method=dsd", *AGAIN), "DSD, 50 %, the rate restarted"),
    ),
    seeds=tuple(range(30)),
    metrics=(ERROR, HELD_OUT),
    rows=(
        Row("baseline, half the updates", "baseline"),
        Row("fine-tuning at lowered rates", "finetune"),
        Row("fine-tuning, the rate restarted", "restart"),
        Row("DSD, 50 %, the rate restarted", "dsd"),
    ),
    claims=(
        Claim("The restart: fine-tuning from the base rate again is better than at lowered rates", "restart", "finetune", "paired t"),
        Claim("The mask after a restart: DSD is better than fine-tuning", "dsd", "restart", "paired t"),
        Claim("DSD varies less than fine-tuning", "dsd", "restart", "paired t", spread=True),
    ),
    sweeps=("python run.py -cd sweeps -cn lenet300_restart hydra/launcher=joblib hydra.launcher.n_jobs=2",),
    margin=MARGIN,
    notes=("The dense phase ends at 0.0047; the restarted phases have 0.01 and 0.001, the lowered ones 0.001 and 0.0001 (PROTOCOLS 1.4: "
           "DSD's sparse phase is a warm restart, ten times the last rate).",),
    decomposition=("dsd", "restart", "baseline"),
)  # fmt: skip

LENET5 = Study(
    name="lenet5",
    title="LeNet-5: 16 paired seeds, the four arms that matter most",
    question="Does a convolutional network answer the same?",
    words=("experiment=dsd_lenet5_mnist", "profile=cpu", "profiles.cpu.dense=10", "profiles.cpu.sparse=5", "profiles.cpu.redense=5",
           "baseline_seed=${seed}"),
    arms=(
        Arm("baseline", ("method=baseline",), "baseline, half the updates",
            without=(*WHOLE, "profiles.cpu.sparse", "profiles.cpu.redense")),
        Arm("dense", ("method=dense",), "dense, base schedule throughout", without=WHOLE),
        Arm("finetune", ("method=finetune",), "fine-tuning at DSD's rates"),
        Arm("dsd", ("method=dsd",), "DSD, 50 %"),
        Arm("random_mask", ("method=random_mask",), "DSD, random mask"),
    ),
    seeds=tuple(range(16)),
    metrics=(ERROR, HELD_OUT),
    rows=(
        Row("baseline, half the updates", "baseline", published=0.80),
        Row("dense, base schedule throughout", "dense"),
        Row("fine-tuning at DSD's rates", "finetune"),
        Row("DSD, 50 %", "dsd"),
        Row("DSD, random mask", "random_mask"),
    ),
    claims=(
        Claim("More training: the base schedule, twice as long, is better than the baseline", "dense", "baseline", "paired t"),
        Claim("The lowered rate: fine-tuning at DSD's rates is better than the base schedule throughout", "finetune", "dense", "paired t"),
        Claim("The mask: DSD is better than fine-tuning", "dsd", "finetune", "paired t"),
        Claim("Which weights: DSD is better than with a random mask", "dsd", "random_mask", "paired t"),
        Claim("DSD varies less than fine-tuning", "dsd", "finetune", "paired t", spread=True),
    ),
    sweeps=("python run.py -cd sweeps -cn lenet5 hydra/launcher=joblib hydra.launcher.n_jobs=2",),
    margin=MARGIN,
    source="The published number is the dense reference of Han et al., NIPS 2015, Table 1.",
    decomposition=("dsd", "finetune", "baseline"),
)  # fmt: skip

STUDIES = (LENET300, RESTART, at(0.25), at(0.75), LENET5)
