"""What README says of the published models, written between markers from the results in their folders."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mt2_music.loading import load_config
from mt2_music.options import DEFAULT_MODEL
from mt2_music.train.probing.report.comparison import MARK, Row, Score, claim

from .card import computing_of, rows_of_card, title_of
from .facts import FACTS_FILE, read_json

CLAIM, TABLE = "claim", "models"


def fill_readme(text: str, folders: Sequence[Path]) -> str:
    """Return README with its claim and its table of models written anew.

    Args:
        text: of README, with the lines `<!-- claim -->`, `<!-- end of claim -->`, and the same of `models`.
        folders: of published models. Models that README speaks of already stay, as long as their folders lie beside
            these. A model with a key layer becomes a row of the model it was made from; one with a frame
            head becomes a sentence.

    Raises:
        ValueError: a marker is missing, a folder holds no results, there is no model of its own, or README speaks of a
            model whose folder is not there.
    """
    folders = _with_models_of(text, folders)
    facts = {folder: read_json(folder / FACTS_FILE) for folder in folders}
    folders = sorted(folders, key=lambda folder: facts[folder]["parameters"])
    plain = [folder for folder in folders if "readout" not in facts[folder]]
    analysing = [folder for folder in folders if "frame_scores" in facts[folder]]
    keyed = {
        facts[folder]["base"]: folder for folder in folders if "readout" in facts[folder] and folder not in analysing
    }
    if not plain:
        raise ValueError("name the folder of at least one model without a key layer")
    claims = [claim(title_of(facts[folder]), rows_of_card(folder)) for folder in plain]
    text = _between(text, CLAIM, "\n".join(claims))
    about = [_about(folder, facts[folder]) for folder in plain]
    about += [_about_keys(title_of(facts[folder]), base) for base, folder in keyed.items()]
    about += [_about_analysis(facts[folder]) for folder in analysing]
    return _between(text, TABLE, "\n".join([*about, "", _table(plain, keyed)]))


def _with_models_of(text: str, folders: Sequence[Path]) -> list[Path]:
    """Return folders of models, and those beside them whose models README speaks of."""
    named: dict[str, Path] = {}
    for folder in folders:
        facts = read_json(folder / FACTS_FILE)
        if not facts or not rows_of_card(folder):
            raise ValueError(f"{folder} holds no {FACTS_FILE} or no results of the benchmark")
        named[title_of(facts)] = folder
    _, spoken, _ = _parts(text, TABLE)
    for title in re.findall(r"^`([^`]+)` (?:has|is) ", spoken, re.MULTILINE):
        beside = [folder.parent / title for folder in folders if rows_of_card(folder.parent / title)]
        if title not in named and not beside:
            raise ValueError(
                f"README speaks of {title}, whose folder with results is neither named nor beside those that are: "
                "name it, or take the sentence on it out of README"
            )
        named.setdefault(title, *beside[:1])
    return list(named.values())


def _between(text: str, marker: str, content: str) -> str:
    start, _, end = _parts(text, marker)
    return f"{start}\n{content}\n\n{end}"


def _parts(text: str, marker: str) -> tuple[str, str, str]:
    """Divide README into what is before and in front of a marker, what stands between, and the rest."""
    start, end = f"<!-- {marker} -->\n", f"<!-- end of {marker} -->"
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"README needs one line {start.strip()} and one line {end}")
    before, _, rest = text.partition(start)
    inside, _, after = rest.partition(end)
    return before + start, inside, end + after


def _about(folder: Path, facts: dict[str, Any]) -> str:
    """Say how large a model is, how long it was trained, and on what, as far as its files tell."""
    text = (
        f"`{title_of(facts)}` has {facts['parameters'] / 1e6:.1f} M parameters, and its vectors have "
        f"{load_config(folder).hidden_size} values."
    )
    settings = facts.get("settings", {})
    music = [f"{settings['hours']:.0f} hours of recordings"] if "num_tracks" in settings else []
    if settings.get("quad_share"):
        length = f"{settings['quad_hours']:.0f} hours of " if "quad_hours" in settings else ""
        music.append(f"{length}pieces rendered from scores")
    if music:
        # Of a model that went on from another, the run knows its own hours alone: its card says the rest.
        knows = "hours" in facts and not settings.get("init_from")
        took = f" for {computing_of(facts)}," if knows else ""
        text += f" It was trained{took} on {' and '.join(music)}."
    return text


def _about_keys(title: str, base: str) -> str:
    where = ""
    if not DEFAULT_MODEL.startswith(base):  # the wheel holds the default and what it was made from
        where = (
            f" Neither is installed with the package: give a folder of the checkout, such as `model_cards/{title}`."
        )
    return (
        f"`{title}` is `{base}` with one more layer, which names the 24 keys; embeddings of both are the same. "
        f"Train and fine-tune from `{base}`.{where}"
    )


def _about_analysis(facts: dict[str, Any]) -> str:
    title = title_of(facts)
    default = " It is the default of `mt2` and `mt2_music.load()`." if title == DEFAULT_MODEL else ""
    return (
        f"`{title}` is `{facts['key_model']}` with one more head, which finds chords, keys over time, beats and tempo."
        f"{default}"
    )


def _table(plain: Sequence[Path], keyed: dict[str, Path]) -> str:
    """Write a column for each model and one for the best baseline, and a row for each task."""
    titles = [title_of(read_json(folder / FACTS_FILE)) for folder in plain]
    by_task = [{row.task: row for row in rows_of_card(folder)} for folder in plain]
    lines = [
        "| what it knows | score | " + " | ".join(titles) + " | best baseline |",
        "|---|---|" + "---:|" * (len(titles) + 1),
    ]
    tasks = list(dict.fromkeys(task for rows in by_task for task in rows))
    for task in tasks:
        found = [rows.get(task) for rows in by_task]
        lines.append(_scores(next(row for row in found if row).title, found))
    named = [rows_of_card(keyed[title]) if title in keyed else [] for title in titles]
    if any(named):
        title = f"key of a piece, by the layer of {' and '.join(f'`{rows[0].own.model}`' for rows in named if rows)}"
        lines.append(_scores(title, [rows[0] if rows else None for rows in named]))
    clips = min(row.test_clips for rows in by_task for row in rows.values())
    note = (
        f"Test split, in percent. Bold is the best of a row; {MARK} marks a baseline that is better than every model "
        "here. What is read of a model was chosen on the validation split; of baselines the best test score counts. "
        f"Differences below {50 / clips**0.5:.0f} points may be chance: test splits hold {clips} clips or more."
    )
    return "\n".join([*lines, "", note])


def _scores(title: str, found: Sequence[Row | None]) -> str:
    rows = [row for row in found if row]
    baselines = [row.baseline for row in rows if row.baseline]
    baseline = max(baselines, key=lambda score: score.mean, default=None)
    best = max([*(row.own.mean for row in rows), *(score.mean for score in baselines)])
    cells = [_cell(row.own, best) if row else "-" for row in found]
    other = "-"
    if baseline:
        ahead = all(baseline.mean > row.own.mean for row in rows)
        other = f"{_cell(baseline, best)} {baseline.model}" + f" {MARK}" * ahead
    return _line(title, rows[0].metric, cells, other)


def _cell(score: Score, best: float) -> str:
    text = f"{100 * score.mean:.1f}"
    return f"**{text}**" if score.mean == best else text


def _line(title: str, metric: str, cells: Sequence[str], baseline: str) -> str:
    return "| " + " | ".join([title, metric, *cells, baseline]) + " |"
