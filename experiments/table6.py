"""Table 6 of the digest (Han et al., ICLR 2017, Table 9): Deep Speech 2, with the controls that were not reported.

Here: AN4 (0.71 hours of training speech, 74 speakers) instead of 2,100 hours of Baidu's, and a smaller network.
"""

from dataclasses import replace

from dsd.results.study import Row
from experiments.table5 import SPEECH1

TITLE = "Table 6: Deep Speech 2, is the gain of Dense-Sparse-Dense real?"

SPEECH2 = replace(
    SPEECH1,
    name="speech2",
    title="6 paired seeds of four arms, and the baseline they start from",
    source="Han et al., ICLR 2017, Table 9; published: one run each, WSJ eval'92 after training on 2,100 hours",
    words=("experiment=dsd_deepspeech2", "profile=cpu", "baseline_seed=${seed}", "trainer.precision=bf16-mixed"),
    seeds=tuple(range(6)),
    rows=(
        Row("Dense 0: baseline", "baseline", published=11.83),
        Row("dense, base schedule throughout", "dense", published=9.55),
        Row("fine-tuning at DSD's rates", "finetune"),
        Row("DSD, 50 % (Dense 1)", "dsd", published=9.11),
        Row("DSDSD, 50 % then 25 % (Dense 2)", "dsdsd", published=9.02),
    ),
    sweeps=("python run.py -cd sweeps -cn table6 hydra/launcher=joblib hydra.launcher.n_jobs=2",),
    notes=(
        "As Table 5, with Deep Speech 2: two convolutions of 4 channels, two recurrent layers 192 wide with sequence-wise BatchNorm. Settings are those "
        "chosen for Deep Speech 1, and DSDSD has as many updates as DSD, the published one more; only the widths were chosen for this network, by the time of a step.",
    ),
)

STUDIES = (SPEECH2,)
