"""Table 5 of the digest (Han et al., ICLR 2017, Table 7): Deep Speech 1, with the controls that were not reported.

Here: AN4 (0.71 hours of training speech, 74 speakers) instead of the Wall Street Journal, and a narrower network.
"""

from dsd.results.study import Arm, Claim, Metric, Row, Samples, Study

TITLE = "Table 5: Deep Speech 1, is the gain of Dense-Sparse-Dense real?"

WER = Metric("test/wer", "WER on AN4's test utterances", "%", "lower")
CER = Metric("test/cer", "CER on AN4's test utterances", "%", "lower")
HELD = Metric("val/wer", "WER on held-out speakers", "%", "lower")
WHOLE = ("baseline_seed",)  # arms that are trained in one piece

SPEECH1 = Study(
    name="speech1",
    title="8 paired seeds of four arms, and the baseline they start from",
    question="With the same seed, the same baseline and as many updates, does DSD (once, or twice over) transcribe better?",
    source="Han et al., ICLR 2017, Table 7; published: one run each, WSJ eval'92, phases of 50 epochs",
    words=(
        "experiment=dsd_deepspeech1",
        "profile=cpu",
        "baseline_seed=${seed}",
        "trainer.precision=bf16-mixed",
    ),
    arms=(
        Arm("baseline", ("method=baseline",), "baseline, fewer updates", without=WHOLE),
        Arm("dense", ("method=dense",), "dense, base schedule throughout", without=WHOLE),
        Arm("finetune", ("method=finetune",), "fine-tuning at DSD's rates"),
        Arm("dsd", ("method=dsd",), "DSD, 50 %"),
        Arm("dsdsd", ("method=dsdsd",), "DSDSD, 50 % then 25 %"),
    ),
    seeds=tuple(range(8)),
    metrics=(WER, CER, HELD),
    rows=(
        Row("Dense 0: baseline", "baseline", published=29.82),
        Row("dense, base schedule throughout", "dense", published=28.03),
        Row("fine-tuning at DSD's rates", "finetune"),
        Row("DSD, 50 % (Dense 1)", "dsd", published=27.90),
        Row("DSDSD, 50 % then 25 % (Dense 2)", "dsdsd", published=27.45),
    ),
    claims=(
        Claim("DSD ends better than the baseline it started from", "dsd", "baseline", "paired t"),
        Claim("DSD is better than the base schedule throughout", "dsd", "dense", "paired t"),
        Claim("The mask: DSD is better than fine-tuning", "dsd", "finetune", "paired t"),
        Claim("Twice over: DSDSD is better than DSD, in as many updates", "dsdsd", "dsd", "paired t"),
        Claim("DSD varies less than fine-tuning", "dsd", "finetune", "paired t", spread=True),
    ),
    sweeps=("python run.py -cd sweeps -cn table5 hydra/launcher=joblib hydra.launcher.n_jobs=2",),
    margin=1.0,
    notes=(
        "AN4, complete, with its official test part (130 utterances, 773 words, speakers apart from those of the training); a tenth of the "
        "training utterances, whole speakers, is held out. The network is 256 wide, a step is three frames of 10 ms. WER is of greedy "
        "decoding without a language model and not comparable with published numbers; only differences between arms are meant.",
        "The rate 3e-3 with momentum 0.9, batches of 8 and gradients clipped at norm 50 were chosen before the study among five settings, by the "
        "validation loss of the dense network after 12 to 15 epochs (seed 0). DSD's rates then go down: 1e-3, 3e-4; in DSDSD's second round a fifth of that.",
        "DSDSD has as many updates here as DSD; the published one had a second round of its own (250 epochs, DSD 150; of Deep Speech 2 100 and 60; PROTOCOLS 1.2), so its published effect is not of the method alone.",
    ),
    decomposition=("dsd", "finetune", "baseline"),
    samples=Samples(("baseline", "finetune", "dsd", "dsdsd")),
)

STUDIES = (SPEECH1,)
