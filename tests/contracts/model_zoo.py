"""What the five packages of the model zoos had, name by name, transcribed from their code and READMEs.

Names stand one a line, as `docs/coming-from-the-model-zoo.md` must have them in the first column of a table. In logs N
stands for a whole number, X for a number, T for any text.
"""

from __future__ import annotations

from dataclasses import dataclass

TABLES = ("Commands", "Arguments and keys", "Environment and clouds", "Files and layouts", "Logs", "Weights")


@dataclass(frozen=True)
class Package:
    """section: its heading in the page. readme: text that only its README holds. names: one text a table."""

    section: str
    readme: str
    commands: str
    settings: str
    environment: str
    files: str
    logs: str
    weights: str

    def tables(self) -> dict[str, list[str]]:
        """The names of each table, by its heading."""
        texts = (self.commands, self.settings, self.environment, self.files, self.logs, self.weights)
        return {table: text.strip("\n").split("\n") for table, text in zip(TABLES, texts, strict=True)}


PACKAGES = (
    Package(
        section="MindSpore ViT-B/16 on CIFAR-10",
        readme="# vit_base描述",
        commands="""
run_standalone_train_ascend.sh
run_standalone_train_gpu.sh
run_distribute_train_ascend.sh
run_distribute_train_gpu.sh
run_standalone_eval_ascend.sh
run_standalone_eval_gpu.sh
run_infer_310.sh
train.py
eval.py
export.py
preprocess.py
postprocess.py
main
build.sh
hccl_tools.py
merge_hccl.py
""",
        settings="""
[DEVICE_ID]
--device_id
--id
device_id
[DATASET_NAME]
--dataset_name
name
[LR_INIT]
--lr_init
lr_init
[LOGS_CKPT_DIR]
--logs_dir
[RANK_TABLE]
[DEVICE_NUM]
[RANK_SIZE]
--device_start
[CKPT_PATH]
--checkpoint_path
[MINDIR_PATH]
--model_path
[DATASET]
--dataset
[DATA_PATH]
--data_path
--dataset_path
[CKPT_FILE]
--ckpt_file
--sub_type
--device_target
device_target
--data_url
--ckpt_url
--train_url
--modelarts
--do_val
--batch_size
--file_name
onnx_filename
air_filename
--width
--height
--file_format
--result_path
--label_file
--device_num
--visible_devices
--server_ip
pre_trained
num_classes
batch_size
epoch_size
momentum
weight_decay
image_height
image_width
data_path
val_data_path
keep_checkpoint_max
checkpoint_path
lr_scheduler
T_max
eta_min
warmup_epochs
lr_epochs
lr_gamma
is_dynamic_loss_scale
loss_scale
label_smooth_factor
use_label_smooth
""",
        environment="""
DEVICE_ID
RANK_ID
RANK_SIZE
DEVICE_NUM
RANK_TABLE_FILE
CKPT
ulimit -u unlimited
background runs
graph mode
data sinking
level O3, level O0
hccl, nccl, mpirun
seed
web page, step 1: AI engine
ckpt_url=obs://path/pre_ckpt/
modelarts=True
web page, step 3: bucket
web page, step 4: code path
web page, step 5: start file
web page, step 6: paths
web page, step 7: create job
/cache/data
/cache/data/pre_ckpt
""",
        files="""
cifar-10-batches-bin
cifar-10-verify-bin
data_batch_N.bin
test_batch.bin
vit_base
scripts
src
README.md
README_CN.md
ascend310_infer
config.py
dataset.py
modeling_ms.py
net_config.py
npz_converter.py
main.cc
utils.cc
utils.h
CMakeLists.txt
requirements.txt
train_parallelN
env.log
train.log
log
eval.log
build.log
infer.log
acc.log
ckpt
train_vit_cifar10-E_S.ckpt
best_acc.ckpt
hccl_Np_IDS_IP.json
vit_base.mindir
vit_base.air
vit_base.onnx
preprocess_Result/img_data
preprocess_Result/label
vit_base_cifar10_B_I.bin
result_Files
time_Result
test_perform_static.txt
""",
        logs="""
Load pre_trained ckpt: T
epoch: N step: N, loss is X
epoch time: X ms, per step time: X ms
Train epoch time: X ms, per step time: X ms
{'acc': X}
train success
load checkpoint from [T].
model's accuracy is {'acc': X}
after allreduce eval: top1_correct=N, tot=N, acc=X%
NN inference cost average time: X ms of infer_count N
==================== export bin files finished ====================
RANK_TABLE_FILE=T
start training for rank N, device N
Start predict input files:T
Invalid model
Load model failed.
ERROR: Build failed.
ERROR: no input data.
write result failed.
compile app code failed
execute inference failed
calculate accuracy failed
""",
        weights="""
ViT-B_16.npz
head of the npz
pre_logits
cifar10_pre_checkpoint_based_imagenet21k.ckpt
.ckpt
transformer.embeddings.*
transformer.encoder.*
moments.*
global_step
learning_rate
ViT-B_16
ViT-B_32
ViT-L_16
ViT-L_32
ViT-H_14
testing
R50-ViT-B_16
encoder names in files
""",
    ),
    Package(
        section="TensorFlow ViT-B/16 on CIFAR-100",
        readme="VisionTransformer_ID1217",
        commands="""
train_full_1p.sh
train_performance_1p.sh
vit_allpipeline_fusion_accelerate.py
vit_allpipeline_performance.py
modelarts_entry_acc.py
modelarts_entry_perf.py
pip3 install requirements.txt
git reset --hard
""",
        settings="""
--data_path
--output_path
--learning_rate
--batch_size
--train_steps
--train_epochs
--precision_mode
allow_fp32_to_fp16
force_fp16
force_fp32
must_keep_origin_dtype
allow_mix_precision
--over_dump
--data_dump_flag
--data_dump_step
--profiling
--help
-h
batch_size
image_size
learning_rate
--data_dir
--model_dir
--num_cells
--image_size
--num_epochs
--train_batch_size
--eval_batch_size
--lr
--lr_decay_value
--lr_warmup_epochs
--mode
--iterations_per_loop
Optimizer: Adam
loss scale
GELU
dropout
augmentation
shuffle
vit_b16_load_pretrain
""",
        environment="""
ASCEND_DEVICE_ID
DEVICE_ID
DEVICE_INDEX
RANK_INDEX
RANK_ID
RANK_SIZE
JOB_ID
MODELARTS_MODEL_PATH
TF_CPP_MIN_VLOG_LEVEL
use_off_line
NpuOptimizer
remapping
fusion_switch_file
precision_tool
enable_dump_debug
dump_debug_mode
enable_dump
dump_mode
dump_path
dump_step
op_debug_level
obs://cann-id1217/dataset/
CANN and environment page
""",
        files="""
train
test
meta
model/vit-base-5
LICENSE
modelzoo_level.txt
README.md
requirements.txt
fusion_switch.cfg
vit_keras
layers.py
layers copy.py
utils.py
vit.py
fusion_result.json
msprof.py
output/DEVICE/train_DEVICE.log
vit-base-5fusion-mix2-1
CASE.log
CASE_loss.txt
my_output_loss.txt
CASE
""",
        logs="""
load dataset =================================
============ start load pretrained model =======================================
============ load success X =====================
epoch:N  step: N , loss:  X ,  time: X  acc: X
epoch:N  step: N , loss: X ,  sec/step : X  acc: X
Train ACC: X
Final Average Distances : X
The model has been compiled on the Ascend AI processor
### get your log here : T
running without etp...
running with modelarts...
[Error] para "data_path" must be config
Final Performance images/sec : X
Final Performance sec/step : X
E2E Training Duration sec : N
Final Train Accuracy : X
Network = T
CaseName = T
RankSize = N
BatchSize = N
DeviceType = T
ActualFPS = X
TrainingTime = X
E2ETrainingTime = N
ActualLoss = X
TrainAccuracy = X
ERROR, your task haven't used Ascend NPU, please check your npu Migration.
INFO, your task have used Ascend NPU, please check your result.
""",
        weights="""
vit-base-5.index
vit-base-5.data-00000-of-00001
vit-base-5.meta
checkpoint
ViT-B_16_imagenet21k+imagenet2012.npz
.h5
.weights.h5
.keras
vision-transformer
""",
    ),
    Package(
        section="MindSpore CCT on ImageNet",
        readme="# [CCT描述]",
        commands="""
run_standalone_train_ascend.sh
run_distribute_train_ascend.sh
run_eval_ascend.sh
run_infer_310.sh
train.py
eval.py
export.py
preprocess.py
postprocess.py
main
build.sh
hccl_tools.py
taskset
""",
        settings="""
[DEVICE_ID]
--device_id
[CONFIG_PATH]
--cct_config
[RANK_TABLE_FILE]
[CHECKPOINT_PATH]
[CKPT_FILE]
--pretrained
[MINDIR_PATH]
--mindir_path
[DATASET_NAME(imagenet2012)]
[DATASET_NAME]
--dataset_name
[DATASET_PATH]
--data_path
--input0_path
[DEVICE_ID(optional)]
[DEVICE_TARGET]
--device_target
device_target
--result_dir
--arch
-a
arch
--accumulation_step
--amp_level
amp_level
--batch_size
-b
batch_size
--beta
beta
--crop_pct
crop_pct
--clip_global_norm
clip_global_norm
--clip_global_norm_value
clip_global_norm_value
--data_url
data_url
--device_num
--curr_epoch
--in_channel
--epochs
epochs
--eps
--file_format
--is_dynamic_loss_scale
is_dynamic_loss_scale
--loss_scale
loss_scale
--keep_checkpoint_max
--optimizer
optimizer
--set
set
--graph_mode
--mix_up
mix_up
cutmix
mixup_prob
switch_prob
mixup_mode
--mixup_off_epoch
mixup_off_epoch
--interpolation
interpolation
auto_augment
re_prob
re_mode
re_count
--num_parallel_workers
-j
num_parallel_workers
--start_epoch
--warmup_length
warmup_length
--warmup_lr
warmup_lr
min_lr
--weight_decay
--wd
weight_decay
--base_lr
--learning_rate
base_lr
--lr_scheduler
lr_scheduler
--lr_adjust
--lr_gamma
--momentum
momentum
nonlinearity
keep_bn_fp32
drop_path_rate
--num_classes
num_classes
--image_size
image_size
--label_smoothing
label_smoothing
--seed
--save_every
--train_url
--run_modelarts
""",
        environment="""
DEVICE_ID
RANK_ID
RANK_SIZE
DEVICE_NUM
RANK_TABLE_FILE
JOB_ID
DEPLOY_MODE
GE_USE_STATIC_MEMORY
background runs
graph kernels
enable_auto_mixed_precision
data sinking
run_modelarts=True
/cache/data
/cache/weight
/cache/ckpt_R
/tmp/copy_sync.lockN
""",
        files="""
train
val
CCT
scripts
src
README_CN.md
ascend310_infer
main.cc
utils.cc
utils.h
CMakeLists.txt
requirements.txt
__init__.py
configs
cct_14-7x2_imagenet.yaml
cct_7-3x1_cifar10_300epochs.yaml
cct_7-3x1_cifar10_1500epochs.yaml
cct_7-3x1_cifar10_5000epochs.yaml
config.py
args.py
parser.py
data
imagenet.py
cifar10.py
augment
auto_augment.py
mixup.py
random_erasing.py
transforms.py
data_utils
moxing_adapter.py
models
cct.py
tokenizer.py
transformers.py
misc.py
var_init.py
trainers
train_one_step_with_scale_and_clip_global_norm.py
tools
callback.py
cell.py
criterion.py
get_misc.py
optimizer.py
schedulers.py
train_standalone
train_parallelN
evaluation_ascend
log.txt
train.log
eval.log
env.log
ckpt_R/ARCHR-E_S.ckpt
ARCH.mindir
ARCH.air
imagenet_label.json
result_Files
time_Result/test_perform_static.txt
infer.log
acc.log
build.log
""",
        logs="""
=> Reading YAML config from T
Namespace(T)
==> Creating model 'T'
=> using arch: T
=> params_num: N
=> using amp_level T
=> change Tto fp16
=> change T to fp16
cast T to fp32
cast T to fp32 back
=> When amp_level is O0, using fixed loss_scale with X
=========================Using MixBatch=========================
=========================Using label smoothing=========================
=========================Using Simple CE=========================
=> loading pretrained weights from 'T'
==> removing T with shape T
=> no pretrained weights found at 'T'
=> Getting T dataset
==> self.mix_steps = N
=> no decay T
=> decay T
=> When using train_wrapper, using optimizer T
=> Get LR from epoch: N
=> Start step: N
=> Total step: N
=> Accumulation step:N
=> Using DynamicLossScaleUpdateCell
=> Using FixedLossScaleUpdateCell, loss_scale_value:N
clip_global_norm T
begin train
epoch: N step: N, loss is X
epoch time: X ms, per step time: X ms
Train epoch time: X ms, per step time: X ms
=============Over Flow, skipping=============
epoch: N acc: X, best acc is X
train success
the number of logical core N
avg_core_per_rank N
core_gap N
start training for rank N, device N rank_id N
start training for device id N
Download data.
from path:  T
to path:  T
===finish data synchronization===
===save flag===
Finish sync data from T to T.
Create train and evaluate dataset.
=> begin eval
=> eval results:{'Loss': X, 'Top1-Acc': X, 'Top5-Acc': X}
=> eval success
[INFO] Completed! Total N data.
Top1 acc: X
Top5 acc: X
NN inference cost average time: X ms of infer_count N
mindir name: T
dataset name: T
dataset path: T
device id: N
DATASET_NAME should be 'imagenet2012'
preprocess dataset failed
compile app code failed
execute inference failed
calculate accuracy failed
Start predict input files:T
Invalid mindir
ERROR: Build failed.
Invalid model, inputs is empty.
ERROR: only support imagenet2012 dataset.
ERROR: no input data.
Predict T failed.
write result failed.
""",
        weights="""
cct_14-7x2_imagenet.ckpt
model.
adam_m.*
adam_v.*
scale_sense
global_step
learning_rate
current_iterator_step
last_overflow_iterator_step
tokenizer.conv_layers.*
classifier.*
max-pooling
cct_14_7x2_224
cct_7_3x1_32
cct_7_3x1_32_sine
the other sizes
""",
    ),
    Package(
        section="timm ViT-B as TorchScript",
        readme="Ascend-cann-torch-aie",
        commands="""
mv FILE.npz vit_base_patch8_224.npz
export.py
compile.py
eval.py
perf_test.py
build.sh
build/sample
valprep.sh
tar -xvf ILSVRC2012_img_val.tar
pip3 install -r requirements.txt
Ascend-cann-toolkit_6.3.RC2.alpha002_linux-aarch64.run
Ascend-cann-aie_6.3.T200_linux-aarch64.run
torch-aie-6.3.T200-linux_aarch64.whl
source set_env.sh
""",
        settings="""
--model_name
-n
--checkpoint_path
-c
--image_size
-i
--model_path
--data_path
--batch_size
--optim_level
--output_path
--device_id
first argument of sample: model path
second argument of sample: image size
third argument of sample: batch size
atol, rtol
allow_tensor_replace_int
""",
        environment="""
DTORCH
DTORCH_AIE
C++14, old ABI
CANN 6.3, Python 3.9, torch 2.0.1, torchvision 0.15.2, timm 0.6.13, tqdm
""",
        files="""
ImageNet
val
ILSVRC2012_val_00000001.JPEG
val_label.txt
requirements.txt
CMakeLists.txt
infer.cpp
README.md
vit_base_patch8_224.ts
vit_base_patch8_224_aie.ts
input NCHW float32
output ND float32
""",
        logs="""
output shape: T
Model loaded successfully.
==================== Start Validation ====================
Start compiling model.
Model compiled successfully.
Optimization level: N
Using optimization level N
inference...
warmup done
Start performance test.
top1 is X, top5 is X, step is N
FPS: X
Start compiling module...
Finish compiling module...
AIE result:T
JIT result:T
Max Difference:X
Acceptable Threshold:X
[SUCCESS] AIE inference result is the same as JIT!
[Failure] AIE inference result is different from JIT!
""",
        weights="""
B_8-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.01-res_224.npz
B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.01-res_224.npz
B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.01-res_384.npz
B_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03-res_224.npz
B_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03-res_384.npz
vit_base_patch8_224
vit_base_patch16_224
vit_base_patch16_384
vit_base_patch32_224
vit_base_patch32_384
""",
    ),
    Package(
        section="MindSpore BEiT fine-tuning",
        readme="# [BEIT描述]",
        commands="""
run_standalone_train_ascend.sh
run_distribute_train_ascend.sh
run_eval_ascend.sh
run_infer_310.sh
train.py
eval.py
export.py
pth2ckpt.ipynb
hccl_tools.py
""",
        settings="""
[DEVICE_ID]
--device_id
[CONFIG_PATH]
--config
[RANK_TABLE_FILE]
[CHECKPOINT_PATH]
--pretrained
pretrained
--device_target
device_target
--arch
-a
arch
--accumulation_step
--amp_level
amp_level
--batch_size
batch_size
--beta
beta
--crop_pct
crop_pct
clip_global_norm_value
--data_url
data_url
--device_num
--epochs
epochs
cooldown_epochs
--eps
--file_format
--in_chans
--mlp_ratio
--deploy
--lr
--learning_rate
--with_ema
--ema_decay
--is_dynamic_loss_scale
is_dynamic_loss_scale
--loss_scale
--keep_checkpoint_max
--save_every
--optimizer
optimizer
--set
set
--mix_up
mix_up
cutmix
mixup_prob
switch_prob
mixup_mode
interpolation
auto_augment
re_prob
re_mode
re_count
--num_parallel_workers
-j
num_parallel_workers
--start_epoch
--warmup_length
warmup_length
--warmup_lr
warmup_lr
min_lr
base_lr
--lr_scheduler
lr_scheduler
--lr_adjust
--lr_gamma
layer_decay
--weight_decay
--wd
weight_decay
--momentum
momentum
keep_bn_fp32
--label_smoothing
label_smoothing
--num_classes
num_classes
--image_size
image_size
drop_path_rate
rel_pos_bias
abs_pos_emb
layer_scale_init_value
--seed
--train_url
--run_modelarts
--multi_data_url
""",
        environment="""
DEVICE_ID
RANK_ID
RANK_SIZE
DEVICE_NUM
RANK_TABLE_FILE
JOB_ID
DEVICE_TARGET
ASCEND_HOME
PATH
LD_LIBRARY_PATH
TBE_IMPL_PATH
PYTHONPATH
ASCEND_OPP_PATH
background runs
graph kernels
graph mode
data sinking
run_modelarts=True
/cache/data
/cache/weight/model.ckpt
/tmp/copy_sync.lockN
s3://open-data/beit/src/
""",
        files="""
imagenet
train
val
BEIT
scripts
src
README_CN.md
README.md
requriments.txt
dataset.py
config.py
args.py
parser.py
configs
pth2ckpt
beit_base_patch16_224.yaml
data
imagenet.py
augment
auto_augment.py
mixup.py
random_erasing.py
transforms.py
data_utils
moxing_adapter.py
models
layers
beit.py
drop_path.py
identity.py
__init__.py
tools
callback.py
cell.py
criterion.py
get_misc.py
optimizer.py
schedulers.py
trainer
train_one_step.py
train_standalone
train_parallelN
evaluation_ascend
log.txt
train.log
eval.log
env.log
ckpt_R/ARCHR-E_S.ckpt
""",
        logs="""
=> Reading YAML config from T
Namespace(T)
==> Creating model 'T'
=> using amp_level T
=> When amp_level is O0, using fixed loss_scale with X
=========================Using MixBatch=========================
=========================Using label smoothing=========================
=========================Using Simple CE=========================
=> loading pretrained weights from 'T'
==> removing T with shape T
=> no pretrained weights found at 'T'
=> Getting T dataset
=> When using train_wrapper, using optimizer T
=> Get LR from epoch: N
=> Start step: N
=> Total step: N
=> Accumulation step:N
learning_rate X
=> Using DynamicLossScaleUpdateCell
=> Using FixedLossScaleUpdateCell, loss_scale_value:N
begin train
epoch: N step: N, loss is X
epoch time: X ms, per step time: X ms
Train epoch time: X ms, per step time: X ms
=============Over Flow, skipping=============
epoch: N acc: X, best acc is X
train success
the number of logical core N
avg_core_per_rank N
core_gap N
start training for rank N, device N rank_id N
start training for device id N
Syncing data.
from path:  T
to path:  T
===finish data synchronization===
===save flag===
Finish sync data from T to T.
local_data_path:T
Create train and evaluate dataset.
=> begin eval
=> eval results:{'Loss': X, 'Top1-Acc': X, 'Top5-Acc': X}
=> eval success
mindir name: T
dataset name: T
dataset path: T
device id: N
DATASET_NAME should be 'imagenet2012'
preprocess dataset failed
compile app code failed
execute inference failed
calculate accuracy failed
""",
        weights="""
beit_base_patch16_224_pt22k_ft22k.ckpt
beit_base_patch16_224_pt22k_ft22k.pth
beit_base_patch16_224_pt22k_ft22kto1k.pth
beit_base_patch16_224.ckpt
model.
adam_m.*
adam_v.*
scale_sense
global_step
learning_rate
current_iterator_step
last_overflow_iterator_step
relative_position_index
relative_position_bias_table
attn.q
attn.k
attn.v
beit_base_patch16_224
base 384, large 224, 384 and 512
dVAE pre-training
""",
    ),
)
