"""NeuralTalk pruned to 10 % (PROTOCOLS 2.1): all but the word embedding; before, after pruning, after retraining.

No table of it was published. Here: the 1,000 pictures of Flickr8k that are to be had, and features of EfficientNet-Lite0.
"""

from dsd.results.study import Arm, Metric, Row, Samples, Study

TITLE = "NeuralTalk pruned to 10 %: before, after pruning, after retraining"

PRUNED = Study(
    name="pruned",
    title="3 seeds, from nothing to the pruned network",
    question="What does pruning 90 % of the image encoding, the LSTM and the decoder cost, and what does retraining bring back?",
    source="Digest, section on the LSTM; no table was published",
    words=("experiment=prune_neuraltalk", "profile=cpu"),
    arms=(Arm("prune", ("method=prune_shown",), "pruned to 10 %"),),
    seeds=(0, 1, 2),
    metrics=(
        Metric("val/perplexity", "perplexity on the validation sentences", "a word", "lower"),
        Metric("val/bleu4", "BLEU-4 on the validation pictures", "BLEU", "higher"),
    ),
    rows=(
        Row("dense", "prune", 0),
        Row("after pruning", "prune", 1),
        Row("after retraining", "prune", 2),
    ),
    claims=(),
    sweeps=("python run.py -m experiment=prune_neuraltalk profile=cpu seed=0,1,2 track=none threads=1",),
    margin=0.5,
    notes=(
        "Validation captions are decoded greedily. After pruning, the network is looked at for a twentieth of an epoch at rate 0.",
    ),
    figure_arm="prune",
    samples=Samples(("prune",), pictures="flickr8k/Flicker8k_Dataset"),
)

STUDIES = (PRUNED,)
