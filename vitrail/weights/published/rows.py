"""Every published weight file of ViT, BEiT and compact transformers, as aligned rows; `published.py` reads them.

Accuracies are top-1 and top-5 on ImageNet-1k unless a row says otherwise; sizes are MiB as the publisher lists them.
"""

from __future__ import annotations

from vitrail.class_names import ClassSet

# ---- Google, AugReg (arXiv 2106.10270): https://storage.googleapis.com/vit_models/augreg/, Apache-2.0.
# A file is MODEL-i21k-300ep-lr_0.001-HOW.npz, fine-tuned ones with --imagenet2012-steps_20k-lr_LR-res_RES.

AUGREG_URL = "https://storage.googleapis.com/vit_models/augreg/"

# the names of Google's models -> ours, without the size of the picture
AUGREG_MODELS = {
    "Ti_16":    "vit_tiny_patch16",
    "S_32":     "vit_small_patch32",
    "S_16":     "vit_small_patch16",
    "B_32":     "vit_base_patch32",
    "B_16":     "vit_base_patch16",
    "B_8":      "vit_base_patch8",
    "L_16":     "vit_large_patch16",
    "R_Ti_16":  "vit_tiny_r_s16_p8",
    "R26_S_32": "vit_small_r26_s32",
    "R50_L_32": "vit_large_r50_s32",
}  # fmt: skip

# timm's choice. model, size, how it was trained, rate of fine-tuning, top-1, top-5 (timm, results-imagenet.csv)
AUGREG_FINE_TUNED = (
    ("B_8",      224, "aug_medium1-wd_0.1-do_0.0-sd_0.0",  "0.01", 85.838, 97.776),
    ("B_16",     224, "aug_medium1-wd_0.1-do_0.0-sd_0.0",  "0.01", 84.534, 97.300),
    ("B_16",     384, "aug_medium1-wd_0.1-do_0.0-sd_0.0",  "0.01", 86.010, 97.998),
    ("B_32",     224, "aug_medium1-wd_0.03-do_0.0-sd_0.0", "0.03", 80.732, 95.574),
    ("B_32",     384, "aug_light1-wd_0.1-do_0.0-sd_0.0",   "0.03", 83.358, 96.828),
    ("Ti_16",    224, "aug_none-wd_0.03-do_0.0-sd_0.0",    "0.03", 75.452, 92.858),
    ("Ti_16",    384, "aug_none-wd_0.03-do_0.0-sd_0.0",    "0.03", 78.438, 94.542),
    ("S_32",     224, "aug_light1-wd_0.03-do_0.0-sd_0.0",  "0.03", 76.010, 93.266),
    ("S_32",     384, "aug_light1-wd_0.03-do_0.0-sd_0.0",  "0.03", 80.476, 95.594),
    ("S_16",     224, "aug_light1-wd_0.03-do_0.0-sd_0.0",  "0.03", 81.402, 96.150),
    ("S_16",     384, "aug_light1-wd_0.03-do_0.0-sd_0.0",  "0.03", 83.814, 97.106),
    ("L_16",     224, "aug_medium1-wd_0.1-do_0.1-sd_0.1",  "0.01", 85.856, 97.822),
    ("L_16",     384, "aug_medium1-wd_0.1-do_0.1-sd_0.1",  "0.01", 87.096, 98.302),
    ("R_Ti_16",  224, "aug_none-wd_0.03-do_0.0-sd_0.0",    "0.03", 71.800, 90.810),
    ("R_Ti_16",  384, "aug_none-wd_0.03-do_0.0-sd_0.0",    "0.03", 75.962, 93.272),
    ("R26_S_32", 224, "aug_light0-wd_0.03-do_0.1-sd_0.1",  "0.03", 81.856, 96.038),
    ("R26_S_32", 384, "aug_medium2-wd_0.03-do_0.0-sd_0.0", "0.03", 84.066, 97.310),
    ("R50_L_32", 224, "aug_medium1-wd_0.1-do_0.1-sd_0.1",  "0.01", 84.434, 97.152),
    ("R50_L_32", 384, "aug_medium2-wd_0.1-do_0.0-sd_0.0",  "0.01", 86.188, 97.928),
)  # fmt: skip

# timm's choice of those trained on ImageNet-21k alone: model, how, MiB where listed
AUGREG_21K = (
    ("Ti_16",    "aug_none-wd_0.03-do_0.0-sd_0.0",     37.0),
    ("S_32",     "aug_light1-wd_0.03-do_0.0-sd_0.0",   None),
    ("S_16",     "aug_light1-wd_0.03-do_0.0-sd_0.0",   115.0),
    ("B_32",     "aug_medium1-wd_0.03-do_0.0-sd_0.0",  None),
    ("B_16",     "aug_medium1-wd_0.1-do_0.0-sd_0.0",   391.0),
    ("B_8",      "aug_medium1-wd_0.1-do_0.0-sd_0.0",   None),
    ("L_16",     "aug_medium1-wd_0.1-do_0.1-sd_0.1",   None),
    ("R_Ti_16",  "aug_none-wd_0.03-do_0.0-sd_0.0",     40.0),
    ("R26_S_32", "aug_medium2-wd_0.03-do_0.0-sd_0.0",  None),
    ("R50_L_32", "aug_medium2-wd_0.1-do_0.0-sd_0.0",   None),
)  # fmt: skip

# timm's choice of those trained on ImageNet-1k alone (i1k): model, size, how, top-1, top-5; rate 0.01
AUGREG_1K = (
    ("S_16", 224, "aug_medium2-wd_0.1-do_0.0-sd_0.0", 78.842, 94.280),
    ("S_16", 384, "aug_medium2-wd_0.1-do_0.0-sd_0.0", 81.130, 95.590),
    ("B_32", 224, "aug_medium2-wd_0.1-do_0.1-sd_0.1", 74.908, 91.770),
    ("B_32", 384, "aug_medium2-wd_0.1-do_0.1-sd_0.1", 78.750, 94.238),
    ("B_16", 224, "aug_strong2-wd_0.1-do_0.1-sd_0.1", 79.154, 94.108),
    ("B_16", 384, "aug_strong2-wd_0.1-do_0.1-sd_0.1", 81.102, 95.334),
)  # fmt: skip

# Google's own choice (README of google-research/vision_transformer), at 384: model, how, rate, top-1, MiB of the file
# before fine-tuning. Where timm chose the same file the row adds Google's figure to it.
AUGREG_RECOMMENDED = (
    ("L_16",     "aug_strong1-wd_0.1-do_0.0-sd_0.0", "0.01", 85.59, 1243.0),
    ("B_16",     "aug_medium1-wd_0.1-do_0.0-sd_0.0", "0.03", 85.49, 391.0),
    ("S_16",     "aug_light1-wd_0.03-do_0.0-sd_0.0", "0.03", 83.73, 115.0),
    ("R50_L_32", "aug_medium1-wd_0.1-do_0.1-sd_0.1", "0.01", 85.99, 1337.0),
    ("R26_S_32", "aug_light1-wd_0.1-do_0.0-sd_0.0",  "0.01", 83.85, 170.0),
    ("Ti_16",    "aug_none-wd_0.03-do_0.0-sd_0.0",   "0.03", 78.22, 37.0),
    ("B_32",     "aug_light1-wd_0.1-do_0.0-sd_0.0",  "0.01", 83.59, 398.0),
    ("S_32",     "aug_none-wd_0.1-do_0.0-sd_0.0",    "0.01", 79.58, 118.0),
    ("R_Ti_16",  "aug_none-wd_0.03-do_0.0-sd_0.0",   "0.03", 75.40, 40.0),
)  # fmt: skip

# fine-tuned again by timm, on the hub alone: variant, top-1, top-5
AUGREG2 = (
    ("vit_base_patch16_224", 85.108, 97.530),
    ("vit_base_patch8_224",  86.252, 97.840),
)  # fmt: skip

# ---- Google, the original paper and SAM: https://storage.googleapis.com/vit_models/FOLDER/FILE.npz, Apache-2.0.
# folder, file, variant, side of the picture where the variant has another, width of pre_logits, MiB

ORIGINAL_URL = "https://storage.googleapis.com/vit_models/"
ORIGINALS = (
    ("imagenet21k",              "ViT-B_8",      "vit_base_patch8_224",   None, 768,  393.72),
    ("imagenet21k",              "ViT-B_16",     "vit_base_patch16_224",  None, 768,  393.69),
    ("imagenet21k",              "ViT-B_32",     "vit_base_patch32_224",  None, 768,  400.01),
    ("imagenet21k",              "ViT-L_16",     "vit_large_patch16_224", None, 1024, 1249.28),
    ("imagenet21k",              "ViT-L_32",     "vit_large_patch32_224", None, 1024, 1259.52),
    ("imagenet21k",              "ViT-H_14",     "vit_huge_patch14_224",  None, 1280, 2519.04),
    ("imagenet21k",              "R26+ViT-B_32", "vit_base_r26_s32_224",  None, 768,  450.23),
    ("imagenet21k",              "R50+ViT-B_16", "vit_base_r50_s16_224",  None, 768,  439.85),
    ("imagenet21k",              "R50+ViT-L_32", "vit_large_r50_s32_224", None, 1024, 1341.44),
    ("imagenet21k+imagenet2012", "ViT-B_8",      "vit_base_patch8_224",   384,  0,    334.78),
    ("imagenet21k+imagenet2012", "ViT-B_16",     "vit_base_patch16_384",  None, 0,    331.40),
    ("imagenet21k+imagenet2012", "ViT-B_16-224", "vit_base_patch16_224",  None, 0,    330.29),
    ("imagenet21k+imagenet2012", "ViT-B_32",     "vit_base_patch32_384",  None, 0,    336.89),
    ("imagenet21k+imagenet2012", "ViT-L_16",     "vit_large_patch16_384", None, 0,    1167.36),
    ("imagenet21k+imagenet2012", "ViT-L_16-224", "vit_large_patch16_224", None, 0,    1157.12),
    ("imagenet21k+imagenet2012", "ViT-L_32",     "vit_large_patch32_384", None, 0,    1167.36),
    ("imagenet21k+imagenet2012", "R50+ViT-B_16", "vit_base_r50_s16_384",  None, 0,    377.57),
    ("sam",                      "ViT-B_16",     "vit_base_patch16_224",  None, 0,    330.30),
    ("sam",                      "ViT-B_32",     "vit_base_patch32_224",  None, 0,    336.61),
    ("sam",                      "ViT-L_16",     "vit_large_patch16_224", None, 0,    1157.12),
    ("sam",                      "ViT-L_32",     "vit_large_patch32_224", None, 0,    1167.36),
    ("sam",                      "ViT-S_16",     "vit_small_patch16_224", None, 0,    252.57),
)  # fmt: skip

# (folder, file) -> top-1 that Google expects, and top-1 and top-5 that timm measured
ORIGINAL_GOOGLE = {
    ("imagenet21k+imagenet2012", "ViT-B_16-224"): 81.2,
    ("imagenet21k+imagenet2012", "ViT-L_16-224"): 82.7,
}
ORIGINAL_TIMM = {
    ("sam", "ViT-B_32"): (73.704, 91.012),
    ("sam", "ViT-B_16"): (80.246, 94.764),
}

# ---- timm's conversions of the originals, Apache-2.0. variant, file, width of pre_logits, whether timm still loads
# this very file, top-1, top-5. Files of ImageNet-21k have a head of zeros.

JX_URL = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-vitjx/"
JX = (
    ("vit_base_patch16_224",  "jx_vit_base_p16_224-80ecf9dd",             0,    True,  81.782, 96.122),
    ("vit_base_patch16_384",  "jx_vit_base_p16_384-83fb41ba",             0,    True,  84.212, 97.210),
    ("vit_base_patch32_384",  "jx_vit_base_p32_384-830016f5",             0,    False, None,   None),
    ("vit_large_patch16_224", "jx_vit_large_p16_224-4ee7a4dc",            0,    False, None,   None),
    ("vit_large_patch16_384", "jx_vit_large_p16_384-b3be5167",            0,    False, None,   None),
    ("vit_large_patch32_384", "jx_vit_large_p32_384-9b920ba8",            0,    True,  81.508, 96.086),
    ("vit_base_r50_s16_384",  "jx_vit_base_resnet50_384-9fd3c705",        0,    True,  84.988, 97.296),
    ("vit_base_patch32_224",  "jx_vit_base_patch32_224_in21k-8db57226",   768,  False, None,   None),
    ("vit_base_patch16_224",  "jx_vit_base_patch16_224_in21k-e5005f0a",   768,  False, None,   None),
    ("vit_large_patch32_224", "jx_vit_large_patch32_224_in21k-9046d2e7",  1024, False, None,   None),
    ("vit_large_patch16_224", "jx_vit_large_patch16_224_in21k-606da67d",  1024, False, None,   None),
    ("vit_base_r50_s16_224",  "jx_vit_base_resnet50_224_in21k-6f7c7740",  768,  False, None,   None),
)  # fmt: skip

# ---- vit-keras's copies of Google's files, Apache-2.0. variant, file, width of pre_logits, bytes where known

VIT_KERAS_URL = "https://github.com/faustomorales/vit-keras/releases/download/dl/"
VIT_KERAS = (
    ("vit_base_patch16_224",  "ViT-B_16_imagenet21k",              768,  None),
    ("vit_base_patch32_224",  "ViT-B_32_imagenet21k",              768,  None),
    ("vit_large_patch16_224", "ViT-L_16_imagenet21k",              1024, None),
    ("vit_large_patch32_224", "ViT-L_32_imagenet21k",              1024, None),
    ("vit_base_patch16_384",  "ViT-B_16_imagenet21k+imagenet2012", 0,    347502902),
    ("vit_base_patch32_384",  "ViT-B_32_imagenet21k+imagenet2012", 0,    None),
    ("vit_large_patch16_384", "ViT-L_16_imagenet21k+imagenet2012", 0,    None),
    ("vit_large_patch32_384", "ViT-L_32_imagenet21k+imagenet2012", 0,    None),
)  # fmt: skip

# ---- Hugging Face hub. id, variant, classes. ViT without a head has a pooler (tanh) in its place.

HUB_VIT: tuple[tuple[str, str, ClassSet], ...] = (
    ("google/vit-base-patch16-224",        "vit_base_patch16_224",  "imagenet1k"),
    ("google/vit-base-patch16-384",        "vit_base_patch16_384",  "imagenet1k"),
    ("google/vit-base-patch32-384",        "vit_base_patch32_384",  "imagenet1k"),
    ("google/vit-large-patch16-224",       "vit_large_patch16_224", "imagenet1k"),
    ("google/vit-large-patch16-384",       "vit_large_patch16_384", "imagenet1k"),
    ("google/vit-large-patch32-384",       "vit_large_patch32_384", "imagenet1k"),
    ("google/vit-base-patch16-224-in21k",  "vit_base_patch16_224",  "none"),
    ("google/vit-base-patch32-224-in21k",  "vit_base_patch32_224",  "none"),
    ("google/vit-large-patch16-224-in21k", "vit_large_patch16_224", "none"),
    ("google/vit-large-patch32-224-in21k", "vit_large_patch32_224", "none"),
    ("google/vit-huge-patch14-224-in21k",  "vit_huge_patch14_224",  "none"),
)  # fmt: skip
HUB_BEIT: tuple[tuple[str, str, ClassSet], ...] = (
    ("microsoft/beit-base-patch16-224",             "beit_base_patch16_224",  "imagenet1k"),
    ("microsoft/beit-base-patch16-384",             "beit_base_patch16_384",  "imagenet1k"),
    ("microsoft/beit-large-patch16-224",            "beit_large_patch16_224", "imagenet1k"),
    ("microsoft/beit-large-patch16-384",            "beit_large_patch16_384", "imagenet1k"),
    ("microsoft/beit-large-patch16-512",            "beit_large_patch16_512", "imagenet1k"),
    ("microsoft/beit-base-patch16-224-pt22k-ft22k", "beit_base_patch16_224",  "imagenet22k"),
    ("microsoft/beit-large-patch16-224-pt22k-ft22k", "beit_large_patch16_224", "imagenet22k"),
    ("microsoft/beit-base-patch16-224-pt22k",       "beit_base_patch16_224",  "none"),
    ("microsoft/beit-large-patch16-224-pt22k",      "beit_large_patch16_224", "none"),
)  # fmt: skip

# ---- SHI-Labs, Apache-2.0. variant, file, classes, crop, top-1 on the set of its classes, tag

SHI_LABS_URL = "https://shi-labs.com/projects/cct/checkpoints/"
SHI_LABS: tuple[tuple[str, str, ClassSet, float, float, str], ...] = (
    ("cct_7_3x1_32",           "pretrained/cct_7_3x1_32_cifar10_300epochs",        "cifar10",    1.0, 96.53, "300e"),
    ("cct_7_3x1_32_sine",      "pretrained/cct_7_3x1_32_sine_cifar10_1500epochs",  "cifar10",    1.0, 97.48, "1500e"),
    ("cct_7_3x1_32_sine",      "pretrained/cct_7_3x1_32_sine_cifar10_5000epochs",  "cifar10",    1.0, 98.00, "5000e"),
    ("cct_7_3x1_32_c100",      "pretrained/cct_7_3x1_32_cifar100_300epochs",       "cifar100",   1.0, 80.92, "300e"),
    ("cct_7_3x1_32_sine_c100", "pretrained/cct_7_3x1_32_sine_cifar100_1500epochs", "cifar100",   1.0, 82.72, "1500e"),
    ("cct_7_3x1_32_sine_c100", "pretrained/cct_7_3x1_32_sine_cifar100_5000epochs", "cifar100",   1.0, 82.87, "5000e"),
    ("cct_7_7x2_224_sine",     "pretrained/cct_7_7x2_224_flowers102",              "flowers102", 1.0, 97.19, ""),
    ("cct_14_7x2_224",         "pretrained/cct_14_7x2_224_imagenet",               "imagenet1k", 0.9, 80.67, ""),
    ("cct_14_7x2_384",         "finetuned/cct_14_7x2_384_imagenet",                "imagenet1k", 0.9, 82.71, ""),
    ("cct_14_7x2_384_fl",      "finetuned/cct_14_7x2_384_flowers102",              "flowers102", 1.0, 99.76, "in1k_ft"),
)  # fmt: skip

# Zips with one .pth inside, on the issue tracker: variant, number, file, classes, top-1, tag. For `weights pull` alone.
SHI_LABS_ISSUES_URL = "https://github.com/SHI-Labs/Compact-Transformers/files/"
SHI_LABS_ISSUES: tuple[tuple[str, int, str, ClassSet, float, str], ...] = (
    ("vit_7_4_32",   6666087, "vitlite7-4_cifar10",     "cifar10",  91.38, "200e"),
    ("vit_7_4_32",   6666088, "vitlite7-4_cifar100",    "cifar100", 69.75, "200e"),
    ("vit_6_4_32",   6666085, "vitlite6-4_cifar10",     "cifar10",  90.94, "200e"),
    ("vit_6_4_32",   6666086, "vitlite6-4_cifar100",    "cifar100", 69.20, "200e"),
    ("cvt_7_4_32",   6666077, "cvt7-4_cifar10",         "cifar10",  92.43, "200e"),
    ("cvt_7_4_32",   6666078, "cvt7-4_cifar100",        "cifar100", 73.01, "200e"),
    ("cvt_6_4_32",   6666075, "cvt6-4_cifar10",         "cifar10",  92.58, "200e"),
    ("cvt_6_4_32",   6666076, "cvt6-4_cifar100",        "cifar100", 72.25, "200e"),
    ("cct_2_3x2_32", 6666059, "cct2-3x2_cifar10",       "cifar10",  89.17, "200e"),
    ("cct_2_3x2_32", 6666060, "cct2-3x2_cifar100",      "cifar100", 66.90, "200e"),
    ("cct_4_3x2_32", 6666061, "cct4-3x2_cifar10",       "cifar10",  91.45, "200e"),
    ("cct_4_3x2_32", 6666066, "cct4-3x2_cifar100",      "cifar100", 70.46, "200e"),
    ("cct_6_3x2_32", 6658604, "cct6-3x2_cifar10_best",  "cifar10",  93.56, "200e"),
    ("cct_6_3x2_32", 6658605, "cct6-3x2_cifar100_best", "cifar100", 74.47, "200e"),
    ("cct_7_3x2_32", 6657152, "cct7-3x2_cifar10_best",  "cifar10",  93.83, "200e"),
    ("cct_7_3x2_32", 6657154, "cct7-3x2_cifar100_best", "cifar100", 74.92, "200e"),
    ("cct_7_3x1_32", 6644400, "cct7-3x1_cifar10_best",  "cifar10",  94.78, "200e"),
    ("cct_7_3x1_32", 6657226, "cct7-3x1_cifar100_best", "cifar100", 77.05, "200e"),
    ("cct_6_3x1_32", 6657185, "cct6-3x1_cifar10_best",  "cifar10",  94.81, "200e"),
    ("cct_6_3x1_32", 6657221, "cct6-3x1_cifar100_best", "cifar100", 76.71, "200e"),
    ("cct_6_3x1_32", 6730781, "cct6-3x1_cifar10_500",   "cifar10",  95.29, "500e"),
    ("cct_6_3x1_32", 6730783, "cct6-3x1_cifar100_500",  "cifar100", 77.31, "500e"),
)  # fmt: skip

# ---- BEiT and BEiT v2 (microsoft/unilm). The repository is MIT, its hub cards and timm say Apache-2.0.
# A file is VARIANT_HOW.pth. variant, how, classes, tag (timm's where it has one), top-1 and top-5 by unilm, by timm

BEiTRow = tuple[str, str, ClassSet, str, float | None, float | None, float | None, float | None]
BEIT_URL = "https://github.com/addf400/files/releases/download/v1.0/"
BEIT: tuple[BEiTRow, ...] = (
    ("beit_base_patch16_224",  "pt22k",           "none",        "in22k",               None,   None,   None,   None),
    ("beit_large_patch16_224", "pt22k",           "none",        "in22k",               None,   None,   None,   None),
    ("beit_base_patch16_224",  "pt1k_800ep",      "none",        "in1k_800e",           None,   None,   None,   None),
    ("beit_base_patch16_224",  "pt22k_ft22k",     "imagenet22k", "in22k_ft_in22k",      None,   None,   None,   None),
    ("beit_large_patch16_224", "pt22k_ft22k",     "imagenet22k", "in22k_ft_in22k",      None,   None,   None,   None),
    ("beit_base_patch16_224",  "pt22k_ft1k",      "imagenet1k",  "in22k_ft_in1k",       83.7,   96.6,   None,   None),
    ("beit_base_patch16_224",  "pt22k_ft22kto1k", "imagenet1k",  "in22k_ft_in22k_in1k", 85.2,   97.6,   85.238, 97.654),
    ("beit_base_patch16_384",  "pt22k_ft22kto1k", "imagenet1k",  "in22k_ft_in22k_in1k", 86.820, 98.124, 86.814, 98.136),
    ("beit_large_patch16_224", "pt22k_ft1k",      "imagenet1k",  "in22k_ft_in1k",       86.0,   97.6,   None,   None),
    ("beit_large_patch16_224", "pt22k_ft22kto1k", "imagenet1k",  "in22k_ft_in22k_in1k", 87.396, 98.282, 87.486, 98.318),
    ("beit_large_patch16_384", "pt22k_ft22kto1k", "imagenet1k",  "in22k_ft_in22k_in1k", 88.408, 98.602, 88.380, 98.604),
    ("beit_large_patch16_512", "pt22k_ft22kto1k", "imagenet1k",  "in22k_ft_in22k_in1k", 88.600, 98.658, 88.576, 98.656),
)  # fmt: skip
BEIT2_URL = "https://github.com/addf400/files/releases/download/BEiT-v2/"
BEIT2: tuple[BEiTRow, ...] = (
    ("beitv2_base_patch16_224",  "pt1k",           "none",        "in1k",               None,   None,   None,   None),
    ("beitv2_large_patch16_224", "pt1k",           "none",        "in1k",               None,   None,   None,   None),
    ("beitv2_base_patch16_224",  "pt1k_ft21k",     "imagenet22k", "in1k_ft_in22k",      None,   None,   None,   None),
    ("beitv2_large_patch16_224", "pt1k_ft21k",     "imagenet22k", "in1k_ft_in22k",      None,   None,   None,   None),
    ("beitv2_base_patch16_224",  "pt1k_ft1k",      "imagenet1k",  "in1k_ft_in1k",       85.5,   97.5,   85.596, 97.514),
    ("beitv2_large_patch16_224", "pt1k_ft1k",      "imagenet1k",  "in1k_ft_in1k",       87.3,   98.2,   87.414, 98.216),
    ("beitv2_base_patch16_224",  "pt1k_ft21kto1k", "imagenet1k",  "in1k_ft_in22k_in1k", 86.458, 97.978, 86.494, 98.056),
    ("beitv2_large_patch16_224", "pt1k_ft21kto1k", "imagenet1k",  "in1k_ft_in22k_in1k", 88.370, 98.578, 88.406, 98.602),
    ("beitv2_base_patch16_224",  "pt1k_300e_ft1k", "imagenet1k",  "in1k_300e_ft_in1k",  85.0,   None,   None,   None),
    ("beitv2_large_patch16_224", "pt1k_300e_ft1k", "imagenet1k",  "in1k_300e_ft_in1k",  86.6,   None,   None,   None),
)  # fmt: skip

# ---- What old guides name, and nobody published: word -> what it is, and what to take instead
NOT_PUBLISHED = {
    "cifar10_pre_checkpoint_based_imagenet21k.ckpt":
        "MindSpore's vit_base made it from Google's file: take `vit_base_patch16_224.google_in21k`",
    "cct_14-7x2_imagenet.ckpt":
        "the MindSpore port never published it: take `cct_14_7x2_224.in1k`",
    "beit_base_patch16_224_pt22k_ft22k.ckpt":
        "a conversion in a closed bucket: take `beit_base_patch16_224.in22k_ft_in22k`",
    "vit-base-5":
        "a TensorFlow checkpoint of CIFAR-100 that was never published: train one with `vitrail train`",
}  # fmt: skip
