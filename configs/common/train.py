# Settings of training. Iterations start at 0; periods are in iterations.
train = dict(
    output_dir="./output",
    init_checkpoint="",  # initial weights: a path or URL; "" trains from scratch
    # False: load only the tensors that fit, with a warning that lists the others; True: weights must fit completely.
    init_strict=True,
    max_iter=90000,
    max_epochs=0.0,  # 12, for example: max_iter becomes that of 12 epochs
    # Mixed precision. dtype: "auto" is bfloat16 if the device has instructions for it, else float16 on a GPU, which
    # scales the loss, and float32 on a CPU.
    amp=dict(enabled=False, dtype="auto"),
    channels_last=True,  # memory format of features, the fastest for most convolutions
    accumulation_steps=1,  # number of parts of a process's batch, one after the other: less memory
    # Maximum L2 norm of all gradients together; 0: no limit. detectron2 does not clip; HRNet's reference detectors
    # (HRNet-Object-Detection) clip at 35, which does not change a normal run.
    clip_grad_norm=35.0,
    clip_grad_value=0.0,  # maximum absolute value of each element of a gradient; 0: no limit
    # Exponential moving average (EMA) of the weights, which is evaluated and saved as `model` in checkpoints.
    ema=dict(enabled=False, decay=0.9998),
    # The batch size for which optimizer.lr is meant: with 16, the rate is multiplied by total_batch_size / 16.
    # 0: the rate is not scaled.
    reference_batch_size=0,
    ddp=dict(broadcast_buffers=False, find_unused_parameters=False, fp16_compression=False),
    checkpointer=dict(period=5000, max_to_keep=100),
    eval_period=5000,
    # 32, for example: evaluations also measure AP on 32 training images, and warn of overfitting; 0: none.
    eval_train_images=0,
    validation_loss=False,  # True: evaluations also compute the losses on the test images
    # metric: "keypoints/AP", for example, saves the best checkpoint as model_best.pth; mode "min" for losses such as
    # "validation/total_loss". patience: number of evaluations without a better one after which the run ends; 0: never.
    # restore=True: the run ends with the best weights instead of the last: in model_final.pth, results and images.
    best=dict(metric="", mode="max", patience=0, restore=False),
    # If a loss or gradient is Inf or NaN: "stop", or "skip" up to max_skipped iterations.
    divergence=dict(policy="stop", max_skipped=10),
    log_period=20,
    hooks=[],  # your own detectron2 hooks, as L(...)(...) nodes
    writers=[],  # your own detectron2 event writers
    device="cuda",  # or "mps", Apple's; the CPU, with a warning, if there is no such GPU
    seed=-1,  # -1: a random seed, which is logged
    deterministic=False,  # True: only deterministic algorithms, slower on a GPU
    fast_dev_run=False,  # True: three iterations and an evaluation of two images, in output_dir/fast_dev_run
)
