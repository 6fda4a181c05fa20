#!/usr/bin/env python
"""Train or evaluate a model from a LazyConfig file."""

import argparse
import sys

EXAMPLES = """
examples:
  tools/lazyconfig_train_net.py --config-file configs/hrnet_w18_kpt.py \\
      dataloader.train.total_batch_size=4 train.reference_batch_size=16 train.output_dir=output/w18
  tools/lazyconfig_train_net.py --config-file configs/hrnet_w18_kpt.py --eval-only \\
      train.init_checkpoint=output/w18/model_final.pth
"""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="a path, or a name in configs/")
    add("--resume", action="store_true", help="go on from the run folder's last checkpoint")
    add("--eval-only", action="store_true", help="evaluate, do not train")
    add("--num-gpus", type=int, default=1, metavar="N", help="GPUs of this machine (default: 1)")
    add("--num-machines", type=int, default=1, metavar="N", help="machines in all (default: 1)")
    add("--machine-rank", type=int, default=0, metavar="N", help="number of this machine, from 0")
    add("--dist-url", default="auto", metavar="URL", help="where several processes meet")
    add("--debug", action="store_true", help="show the traceback of an error in the input")
    add("overrides", nargs="*", metavar="key=value", help="replaces a value of the config")
    return parser


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_intermixed_args(argv)

    from hrnet_kpt.command_line import SKIPPED_SOME, run_tool  # isort: skip  (first: it quiets imports)
    from detectron2.engine import launch

    from hrnet_kpt.config import load_config
    from hrnet_kpt.engine import evaluate, train
    from hrnet_kpt.engine.setup import set_up_logging
    from hrnet_kpt.engine.skipped import skipped_file

    def work() -> int:
        set_up_logging()
        cfg = load_config(args.config_file, args.overrides)
        function = evaluate if args.eval_only else train
        launch(
            *(function, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url),
            args=(cfg, args.resume),
        )
        return SKIPPED_SOME if skipped_file(cfg).exists() else 0

    return run_tool(work, args.debug)


if __name__ == "__main__":
    sys.exit(main())
