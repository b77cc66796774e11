"""Results to a Markdown table and pictures.

`python -m mt2_music.train.probing.report results.json --figure bars.png`
"""

import argparse
from pathlib import Path

from mt2_music.interrupts import command

from .report import load_results, plot_bars, plot_layers, sizes, table


@command("report", "start again")
def main(argv: list[str] | None = None) -> None:
    """Write table and pictures from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="files of mt2_music.train.probing.run")
    parser.add_argument("--output", type=Path, help="file of the table (default: print it)")
    parser.add_argument("--figure", type=Path, help="picture of the scores as bars, .png or .pdf")
    parser.add_argument("--layer_figure", type=Path, help="picture of the scores by layer, .png or .pdf")
    arguments = parser.parse_args(argv)
    try:
        models = load_results(arguments.results)
        text = table(models) + "\n" + sizes(models)
        if arguments.figure:
            plot_bars(models, arguments.figure)
        if arguments.layer_figure:
            plot_layers(models, arguments.layer_figure)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
