# How the training runs. Iterations count from 0; periods are in iterations.
train = dict(
    output_dir="./output",
    init_checkpoint="",  # weights to start from: a path or URL; "" trains from scratch
    # False: load what fits of weights that fit in part, with a warning that lists the rest; True refuses them.
    init_strict=True,
    max_iter=90000,
    amp=dict(enabled=False, dtype="float16"),  # mixed precision; "bfloat16" needs no loss scaling
    # Gradients longer than this L2 norm are scaled down to it; 0 switches it off. detectron2 does not clip;
    # HRNet's reference detectors (HRNet-Object-Detection) clip at 35, which never bites in a sane run.
    clip_grad_norm=35.0,
    # The batch size that optimizer.lr is meant for. 0: the rate is taken as it is. Another number, 16 say:
    # the rate is multiplied by total_batch_size / 16.
    reference_batch_size=0,
    ddp=dict(broadcast_buffers=False, find_unused_parameters=False, fp16_compression=False),
    checkpointer=dict(period=5000, max_to_keep=100),
    eval_period=5000,
    log_period=20,
    device="cuda",  # falls back to the CPU, with a warning, where there is no GPU
    seed=-1,  # -1 draws one and logs it
)
