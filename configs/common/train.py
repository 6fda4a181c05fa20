# How the training runs. Iterations count from 0; periods are in iterations.
train = dict(
    output_dir="./output",
    init_checkpoint="",  # weights to start from: a path or URL; "" trains from scratch
    # False: load what fits of weights that fit in part, with a warning that lists the rest; True refuses them.
    init_strict=True,
    max_iter=90000,
    max_epochs=0.0,  # another number, 12 say: max_iter becomes that of so many passes over the training images
    amp=dict(enabled=False, dtype="float16"),  # mixed precision; "bfloat16" needs no loss scaling
    channels_last=True,  # features lie in memory with their channels last, which most convolutions are quickest with
    accumulation_steps=1,  # a process's images of a batch go through the model in so many parts: less memory
    # Gradients longer than this L2 norm are scaled down to it; 0 switches it off. detectron2 does not clip;
    # HRNet's reference detectors (HRNet-Object-Detection) clip at 35, which never bites in a sane run.
    clip_grad_norm=35.0,
    clip_grad_value=0.0,  # largest absolute value of each element of a gradient; 0: no limit
    # A moving average of the weights, which is then what is evaluated and what a checkpoint's `model` holds.
    ema=dict(enabled=False, decay=0.9998),
    # The batch size that optimizer.lr is meant for. 0: the rate is taken as it is. Another number, 16 say:
    # the rate is multiplied by total_batch_size / 16.
    reference_batch_size=0,
    ddp=dict(broadcast_buffers=False, find_unused_parameters=False, fp16_compression=False),
    checkpointer=dict(period=5000, max_to_keep=100),
    eval_period=5000,
    validation_loss=False,  # True: each evaluation computes the losses on the test images, too
    # metric: "keypoints/AP", say, keeps the checkpoint that is best by it, model_best.pth; mode "min" for losses, as
    # "validation/total_loss". patience: the run ends after so many evaluations without a better one; 0: never.
    best=dict(metric="", mode="max", patience=0),
    # When a loss or gradient is Inf or NaN: "stop", or "skip" up to max_skipped iterations of the run.
    divergence=dict(policy="stop", max_skipped=10),
    log_period=20,
    hooks=[],  # detectron2 hooks of your own, as L(...)(...) nodes
    writers=[],  # detectron2 event writers of your own, to send metrics elsewhere
    device="cuda",  # falls back to the CPU, with a warning, where there is no GPU
    seed=-1,  # -1 draws one and logs it
    deterministic=False,  # only algorithms that give the same bits each time, on a GPU slower
    fast_dev_run=False,  # True: three iterations and an evaluation of two images, in output_dir/fast_dev_run
)
