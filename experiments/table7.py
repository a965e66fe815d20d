"""Table 7 of the digest (PROTOCOLS 1.4): is DSD's gain on ResNet-20, CIFAR-10, more than its extra training?

Two designs. Literal: one baseline, 16 seeds of each arm from its checkpoint. Paired: 16 independent short baselines.
"""

from dsd.results.study import Arm, Claim, Metric, Row, Study

TITLE = "Table 7: ResNet-20 on CIFAR-10, is the gain of Dense-Sparse-Dense real?"

ERROR = Metric("val/error1", "error on 5,000 held out", "%", "lower")
TEST = Metric("test/error1", "error on 1,000 official test images", "%", "lower")
COMMON = (
    "experiment=dsd_resnet20_cifar10",
    "profile=cpu",
    "trainer=fast",
    "profiles.cpu.sparse=3",
    "profiles.cpu.redense=3",
)
ONLY_DENSE = ("profiles.cpu.sparse", "profiles.cpu.redense", "baseline_seed")
HELD_OUT = (
    "The 5,000 images held out of the training set took no part in any choice: lengths, rates and sparsity were fixed before, "
    "and the weights measured are the final ones. The 1,000 official test images that are at hand are shown beside them."
)
SHORT = "The phases after the baseline have 3 epochs each, where the paper's have 45; the rates are the published ones."

LITERAL = Study(
    name="literal",
    title="Literal: 16 seeds from one checkpoint",
    question="From one baseline trained by the published recipe, do 16 runs of DSD end below 16 runs of fine-tuning at the same rates?",
    source="PROTOCOLS 1.4; published: n = 16, error on the 10,000 test images",
    words=(*COMMON, "profiles.cpu.dense=164", "baseline_seed=0"),
    arms=(
        Arm("baseline", ("method=baseline",), seeds=(0,), without=ONLY_DENSE),
        Arm("finetune", ("method=finetune",), "direct fine-tuning"),
        Arm("dsd", ("method=dsd",), "DSD, 50 %"),
        Arm("random_mask", ("method=random_mask",), "DSD with a random mask"),
    ),
    seeds=tuple(range(16)),
    metrics=(ERROR, TEST),
    rows=(
        Row("Baseline", "baseline", published=8.26),
        Row("Direct finetune, 1st half", "finetune", 0, 8.16, 0.08),
        Row("Direct finetune, 2nd half", "finetune", 1, 7.97, 0.04),
        Row("DSD, 1st half (sparse)", "dsd", 0, 8.12, 0.05),
        Row("DSD, 2nd half (dense)", "dsd", 1, 7.89, 0.03),
        Row("Random mask, 1st half (sparse)", "random_mask", 0),
        Row("Random mask, 2nd half (dense)", "random_mask", 1),
    ),
    claims=(
        Claim("DSD ends better than the baseline it started from", "dsd", "baseline", "one-sample t", published_p="p < 0.001"),
        Claim("DSD ends better than matched fine-tuning", "dsd", "finetune", "Welch t", published_p="p < 0.001"),
        Claim("At half-way, the sparse network is better than the fine-tuned one", "dsd", "finetune", "Welch t", phase=0),
        Claim("A mask by magnitude is better than a random one", "dsd", "random_mask", "Welch t"),
        Claim("DSD varies less than fine-tuning", "dsd", "finetune", "Welch t", spread=True),
    ),
    sweeps=("python run.py -cd sweeps -cn table7",),
    margin=0.08,
    notes=(HELD_OUT, SHORT, "The margin is the published difference between DSD and fine-tuning. All runs start from one checkpoint, "
           "so the spread is that of the data order alone, and what is found holds for this baseline.",
           "The recipe is fb.resnet.torch's, on 45,000 training images instead of 50,000 and with each drop of the rate one epoch later (after 81 and 122 epochs)."),
    decomposition=("dsd", "finetune", "baseline"),
    decomposition_paired=False,
)  # fmt: skip

PAIRED = Study(
    name="paired",
    title="Honest: 16 independent baselines, paired",
    question="Over independently trained networks, each continued by DSD and by fine-tuning with the same data order, which ends lower?",
    words=(*COMMON, "profiles.cpu.dense=8", "baseline_seed=${seed}"),
    arms=(
        Arm("baseline", ("method=baseline",), without=ONLY_DENSE),
        Arm("finetune", ("method=finetune",), "direct fine-tuning"),
        Arm("dsd", ("method=dsd",), "DSD, 50 %"),
    ),
    seeds=tuple(range(16)),
    metrics=(ERROR, TEST),
    rows=(
        Row("Baseline, 8 epochs", "baseline"),
        Row("Direct finetune, 1st half", "finetune", 0),
        Row("Direct finetune, 2nd half", "finetune", 1),
        Row("DSD, 1st half (sparse)", "dsd", 0),
        Row("DSD, 2nd half (dense)", "dsd", 1),
    ),
    claims=(
        Claim("DSD ends better than its own baseline", "dsd", "baseline", "paired t"),
        Claim("Fine-tuning ends better than its own baseline", "finetune", "baseline", "paired t"),
        Claim("DSD ends better than matched fine-tuning", "dsd", "finetune", "paired t"),
        Claim("At half-way, the sparse network is better than the fine-tuned one", "dsd", "finetune", "paired t", phase=0),
        Claim("DSD varies less than fine-tuning", "dsd", "finetune", "paired t", spread=True),
    ),
    sweeps=("python run.py -cd sweeps -cn table7_paired",),
    margin=0.08,
    notes=(HELD_OUT, SHORT, "The baselines are short (the published schedule compressed to 8 epochs), so they are further from "
           "convergence than the paper's."),
    decomposition=("dsd", "finetune", "baseline"),
)  # fmt: skip

STUDIES = (LITERAL, PAIRED)
