"""Fine-tune a published model on labelled music.

`python -m mt2_music.train.finetune --model model_cards/mt2-small --data labelled --task single --output_dir tuned`

DATA is a folder with one folder for each label (or with train, validation and test folders of such), a CSV table, or
the name or path of a `datasets` data set; `mt2_music.train.data.label_sources` says what the columns are. At the end
the output folder is a Hub folder, with metrics.json and a card. A killed run goes on when it is started again.
"""

import logging
import sys
from contextlib import ExitStack
from pathlib import Path

from transformers import HfArgumentParser

from mt2_music.interrupts import command, finishing
from mt2_music.train.data.splits import SPLITS
from mt2_music.train.run_folder import check_settings, last_complete_checkpoint, only_run_in, refuse_divided_weights

from .config import FinetuneArguments, TuningArguments
from .run import MAX_LABELS_ON_CARD, check_place, clear, finish, make_trainer, prepare

logger = logging.getLogger(__name__)


@command("finetune", "the same command goes on from the last checkpoint, if there is one")
def main(argv: list[str] | None = None) -> int:
    """Tune, and leave a Hub folder; return 0, or 2 when something is wrong with what was given."""
    with ExitStack() as stack:
        try:
            parser = HfArgumentParser((FinetuneArguments, TuningArguments), description=__doc__)  # type: ignore[arg-type]
            arguments, training = parser.parse_args_into_dataclasses(sys.argv[1:] if argv is None else argv)
            level = logging.INFO if training.process_index == 0 else logging.ERROR
            logging.basicConfig(level=level, format="%(message)s")
            refuse_divided_weights(training)
            output_dir = Path(str(training.output_dir))
            job = prepare(arguments, training)
            if check_place(output_dir, job.settings):
                clear(output_dir)  # a run that was killed at the very end may have left it
                logger.info("%s is finished", output_dir)
                return 0
            output_dir.mkdir(parents=True, exist_ok=True)
            with training.main_process_first(desc="settings"):
                if training.process_index == 0:
                    stack.enter_context(only_run_in(output_dir))
                    check_settings(output_dir, job.settings)
            checkpoint = last_complete_checkpoint(output_dir)
        except (ImportError, OSError, ValueError) as error:
            logger.error("finetune: %s", error)
            return 2
        for item in job.labelled.left_out:
            logger.warning("left out %s: %s", item.name, item.reason)
        sizes = ", ".join(f"{len(job.excerpts[name])} {name}" for name in SPLITS)
        logger.info("recordings: %s; labels: %s", sizes, ", ".join(job.labelled.names[:MAX_LABELS_ON_CARD]))
        trainer = make_trainer(job, training)
        if checkpoint is not None:
            logger.info("going on from %s", checkpoint)
        with finishing():  # a signal waits for the end of a step
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint is not None else None)
        finish(job, trainer, output_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
