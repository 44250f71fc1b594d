"""The profiles of a training run: what `--profile` chooses from, a table for each stage.

settings = replace(PROFILES["smoke"], steps=60, seed=1)
settings = replace(AUGMENTED_PROFILES["colab"], width=32)
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .settings import (
    AugmentedSettings,
    TrainSettings,
    augmented_report_weights,
    rendered_weights,
    report_weights,
)

PROFILES: Mapping[str, TrainSettings] = MappingProxyType(
    {
        # Under a minute on two CPU cores: dlib's face-recognition network has seen faces before,
        # so that 512 more are enough to see it learn.
        "smoke": TrainSettings(
            profile="smoke",
            backbone="dlib_resnet29",
            norm="frozen",
            pretrained="faces",
            input_size=112,
            render_size=112,
            batch=8,
            faces_per_epoch=512,
            schedule="cosine",
            warmup=5,
            clip_norm=30.0,
            log_every=4,
            picture_every=32,
            checkpoint_every=16,
            validate_every=32,
            validation_faces=32,
        ),
        # One GPU; 128,000 faces.
        "colab": TrainSettings(
            profile="colab",
            backbone="dlib_resnet29",
            norm="frozen",
            pretrained="faces",
            batch=64,
            steps=5000,
            learning_rate=3e-4,
            schedule="cosine",
            warmup=200,
            clip_norm=30.0,
            ema=0.999,
            precision="auto",
            log_every=50,
            picture_every=1000,
            checkpoint_every=500,
            validate_every=1000,
            validation_faces=512,
        ),
        # The first run of the encoder in the package: 13 minutes on an H100.
        "shipped": TrainSettings(
            profile="shipped",
            backbone="dlib_resnet29",
            norm="frozen",
            pretrained="faces",
            subdivision=1,
            batch=256,
            steps=5000,
            learning_rate=3e-4,
            schedule="cosine",
            warmup=300,
            last_rate=0.01,
            clip_norm=30.0,
            ema=0.999,
            precision="bf16-mixed",
            weights={**rendered_weights("dlib"), "recognition": 1.0},
            recognition="dlib",
            log_every=50,
            picture_every=1000,
            checkpoint_every=1000,
            validate_every=1000,
            validation_faces=512,
        ),
        # Section 2.1. Adam, the batch and the clipping are ours: the report does not name them.
        # With photos from shards and dlib's network for Eq. 6 it is 0.59 h of steps on an H100.
        "full": TrainSettings(
            profile="full",
            backbone="resnet50",
            pretrained="imagenet",
            subdivision=1,
            batch=64,
            epochs=20,
            faces_per_epoch=114_000,
            learning_rate=3e-5,
            precision="auto",
            clip_norm=1e6,
            weights=report_weights("facenet"),
            reduction="sum",
            recognition="facenet",
            workers=8,
            log_every=50,
            picture_every=1000,
            checkpoint_every=1000,
            validate_every=1782,
            validation_faces=1024,
        ),
    }
)

AUGMENTED_PROFILES: Mapping[str, AugmentedSettings] = MappingProxyType(
    {
        # Under a minute on two CPU cores: a base of tones 1 to 4 alone, under the true light, where
        # the texture map has most to do and 32 steps show it, as in section 2.3.
        "smoke": AugmentedSettings(
            profile="smoke",
            albedo="light",
            illumination="known",
            width=8,
            batch=4,
            faces_per_epoch=128,
            learning_rate=2e-2,
            schedule="cosine",
            warmup=3,
            clip_norm=300.0,
            log_every=4,
            picture_every=16,
            checkpoint_every=16,
            validate_every=16,
            validation_faces=12,
        ),
        # One GPU; 128,000 faces.
        "colab": AugmentedSettings(
            profile="colab",
            subdivision=1,
            batch=32,
            steps=4000,
            learning_rate=1e-3,
            schedule="cosine",
            warmup=200,
            clip_norm=30.0,
            ema=0.999,
            precision="auto",
            log_every=50,
            picture_every=500,
            checkpoint_every=500,
            validate_every=500,
            validation_faces=256,
        ),
        # The U-Net in the package: 18 minutes on an H100 that had other work as well.
        "shipped": AugmentedSettings(
            profile="shipped",
            norm="group",
            subdivision=1,
            batch=96,
            steps=4000,
            learning_rate=1e-3,
            schedule="cosine",
            warmup=200,
            last_rate=0.01,
            clip_norm=30.0,
            ema=0.999,
            precision="bf16-mixed",
            log_every=50,
            picture_every=1000,
            checkpoint_every=500,
            validate_every=500,
            validation_faces=256,
        ),
        # Section 2.2: seven epochs, Eq. 12 as printed. Adam, its rate, the width, the batch and the
        # clipping are ours: the report does not name them. On an H100, with rendered faces and
        # dlib's network, 0.41 h of steps; with width 64 0.66 h.
        "full": AugmentedSettings(
            profile="full",
            width=32,
            subdivision=1,
            batch=128,
            epochs=7,
            faces_per_epoch=114_000,
            learning_rate=1e-4,
            precision="auto",
            clip_norm=1e6,
            weights=augmented_report_weights("facenet"),
            reduction="sum",
            recognition="facenet",
            symmetry="image",
            smooth_on="face",
            wrinkles=False,
            workers=8,
            log_every=50,
            picture_every=1000,
            checkpoint_every=1000,
            validate_every=891,
            validation_faces=1024,
        ),
    }
)
