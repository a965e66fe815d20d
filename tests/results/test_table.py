"""The table says what was measured, and shows published numbers only beside comparable ones."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from dsd.results.schema import Result
from dsd.results.table import as_text, phase_table, sentences
from dsd.run.config import CONF, composed

PUBLISHED: dict[str, Any] = {
    "source": "Han et al., ICLR 2017, Table 4",
    "data": "ImageNet",
    "metric": "top-1 error %",
    "rows": [
        {"phase": "dense", "top1": 30.43, "top5": 10.76, "sparsity": 0, "epochs": 90, "rate": 0.1},
        {"phase": "sparse", "top1": 30.15, "top5": 10.56, "sparsity": 0.3, "epochs": 45, "rate": 0.01},
        {"phase": "redense", "top1": 29.17, "top5": 10.13, "sparsity": 0, "epochs": 45, "rate": 0.001},
    ],
}


def sample(
    *, profile: str = "quick", published: dict[str, Any] | None = PUBLISHED, test: dict[str, Any] | None = None
) -> Result:
    def phase(name: str, epochs: float, rates: tuple[float, float], sparsity: float, metrics: dict[str, Any]) -> Any:
        return {
            "name": name,
            "epochs": epochs,
            "updates": 10,
            "rate_first": rates[0],
            "rate_last": rates[1],
            "sparsity": sparsity,
            "metrics": metrics,
        }

    lengths = (90, 45, 45) if profile == "paper" else (2, 1.25, 1)
    result: Any = {
        "run_id": "0123456789ab",
        "profile": profile,
        "config": {"choices": {"data": "imagenet" if profile == "paper" else "embedded"}},
        "published": published,
        "metrics": {
            "phases": [
                phase("dense", lengths[0], (0.1, 0.01), 0.0, {"val/error1": 4.0, "val/error5": 0.5, "val/loss": 0.1}),
                phase("sparse", lengths[1], (0.01, 0.01), 0.3, {"val/error1": 3.456, "val/error5": 0.25}),
                phase("redense", lengths[2], (0.001, 1e-5), 0.0, {}),
            ],
            "test": {"test/error1": 3.2, "test/error5": 0.1, "test/loss": 0.2, "test/n": 1000}
            if test is None
            else test,
        },
    }
    return result  # type: ignore[no-any-return]


def rows(result: Result) -> list[list[str]]:
    """The headings and the cells of the printed table."""
    text = as_text(result).split("\n\n")[0]
    lines = [line for line in text.splitlines() if "─" not in line and line.strip()]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def test_one_row_a_phase() -> None:
    assert rows(sample()) == [
        ["phase", "epochs", "learning rate", "sparsity %", "val top-1 error %", "val top-5 error %"],
        ["dense", "2", "0.1 → 0.01", "0.0", "4.00", "0.50"],
        ["sparse", "1.25", "0.01", "30.0", "3.46", "0.25"],
        ["redense", "1", "0.001 → 1e-05", "0.0", "–", "–"],
    ]
    assert phase_table(sample()).row_count == 3


def test_the_paper_profile_stands_beside_the_published_numbers() -> None:
    found = rows(sample(profile="paper"))
    assert found[0][4:] == ["val top-1 error %", "published", "val top-5 error %", "published"]
    assert [row[4:] for row in found[1:]] == [
        ["4.00", "30.43", "0.50", "10.76"],
        ["3.46", "30.15", "0.25", "10.56"],
        ["–", "29.17", "–", "10.13"],
    ]
    assert sentences(sample(profile="paper"))[0] == "published: Han et al., ICLR 2017, Table 4 (ImageNet)."


def test_published_numbers_stand_beside_no_other_lengths() -> None:
    result = sample(profile="paper")
    result["metrics"]["phases"][1]["epochs"] = 3
    assert "published" not in rows(result)[0]
    assert sentences(result)[0].endswith(
        "is not comparable: this run used the paper profile (imagenet data), with 3 epochs of sparse in place of 45."
    )


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"config": {"choices": {"data": "embedded"}}}, "with embedded data in place of ImageNet."),
        ({"config": {"data": {"subset": 500}}}, "with 500 training images."),
        ({"config": {"recipe": {"sparse": {"sparsity": 0.5}}}}, "with 50 % sparsity in place of 30 %."),
        ({"method": "random_mask"}, "with the control random_mask."),
    ],
    ids=["data", "subset", "sparsity", "method"],
)
def test_published_numbers_stand_beside_no_other_conditions(other: dict[str, Any], said: str) -> None:
    result: Any = {**sample(profile="paper"), **other}
    assert "published" not in rows(result)[0]
    assert sentences(result)[0].endswith(said)


@pytest.mark.parametrize("path", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_published_numbers_stand_beside_their_own_experiment(path: Path) -> None:
    cfg: Any = OmegaConf.to_container(composed(f"experiment={path.stem}", "profile=paper"))
    if not cfg.get("published"):
        return
    config = {"choices": {"data": "imagenet"}, "data": cfg["data"], "recipe": cfg["recipe"]}
    result: Any = {
        **sample(profile="paper", published=cfg["published"]),
        "config": config,
        "method": cfg["method"]["name"],
    }
    result["metrics"]["phases"] = []
    assert sentences(result)[0].startswith("published: ")


def test_a_phase_the_paper_does_not_have_gets_a_dash() -> None:
    found = rows(sample(profile="paper", published={**PUBLISHED, "rows": PUBLISHED["rows"][:1]}))
    assert [row[5] for row in found[1:]] == ["30.43", "–", "–"]


def test_another_profile_is_said_not_to_be_comparable() -> None:
    assert sentences(sample()) == [
        "The published top-1 error 30.43 / 30.15 / 29.17 % (Han et al., ICLR 2017, Table 4; ImageNet, 90 + 45 + 45 "
        "epochs) is not comparable: this run used the quick profile (embedded data).",
        "test (final weights): top-1 error 3.2 %, top-5 0.1 %, n = 1,000 images",
    ]
    assert as_text(sample()).endswith("\n\n" + "\n".join(sentences(sample())))


@pytest.mark.parametrize(("phase", "values"), [("dense", "30.43 %"), ("another", "30.43 / 30.15 / 29.17 %")])
def test_the_sentence_has_the_phases_of_the_run_or_all(phase: str, values: str) -> None:
    result = sample()
    result["metrics"]["phases"] = [{**result["metrics"]["phases"][0], "name": phase}]
    assert f"top-1 error {values} (" in sentences(result)[0]


def test_without_published_numbers_nothing_is_said_of_them() -> None:
    assert "published" not in as_text(sample(published=None))
    assert "published" not in as_text(sample(published=None, profile="paper"))


@pytest.mark.parametrize(
    ("test", "line"),
    [
        ({}, "test (final weights): not measured"),
        ({"test/error1": 30.43}, "test (final weights): top-1 error 30.43 %"),
        ({"test/error5": 1.5}, "test (final weights): top-5 error 1.5 %"),
        ({"test/wer": 12.5, "test/loss": 1}, "test (final weights): WER 12.5 %"),
        ({"test/bleu": 21.4, "test/error1": None}, "test (final weights): BLEU 21.4, top-1 error – %"),
    ],
)
def test_the_test_line_says_what_was_measured(test: dict[str, Any], line: str) -> None:
    assert sentences(sample(test=test))[-1] == line


def test_no_validation_at_all_is_dashes() -> None:
    result = sample()
    for phase in result["metrics"]["phases"]:
        phase["metrics"] = {}
    assert [row[4:] for row in rows(result)[1:]] == [["–", "–"]] * 3


@pytest.mark.parametrize("profile", ["paper", "quick"])
@pytest.mark.parametrize("key", ["source", "data", "metric", "rows"])
def test_a_missing_published_key_is_named(profile: str, key: str) -> None:
    published = {name: value for name, value in PUBLISHED.items() if name != key}
    with pytest.raises(ValueError, match=rf"published\.{key} is missing in the result of run 0123456789ab"):
        as_text(sample(profile=profile, published=published))


def test_a_missing_phase_name_is_named() -> None:
    with pytest.raises(ValueError, match=r"published\.rows\[1\]\.phase"):
        as_text(sample(published={**PUBLISHED, "rows": [PUBLISHED["rows"][0], {"top1": 1.0}]}))


def test_what_is_published_without_errors_says_so():
    sizes = PUBLISHED | {"rows": [{"phase": "dense", "sparsity": 0, "bytes": 91_000_000}]}
    said = sentences(sample(published=sizes))[0]
    assert said.startswith("No top-1 error is published that we know of (Han et al., ICLR 2017, Table 4; ImageNet)")
