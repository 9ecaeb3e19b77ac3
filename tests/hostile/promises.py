"""Which tests keep which promise about runs, foreign bytes and pictures: how many are quick, and the full campaigns.

The numbers A12, B1, C1 ... are stable. A test that keeps a promise has its number in its name (`test_C04_...`); the
quick count is held by `test_promises.py`, which counts the cases of those tests. The full counts are run by
`make prove`, which keeps the outcome of each test in `results/prove.json`; `results/hostile.json` and
`results/pictures.json` have what became of the mutants.

The wording of a hostile list is held in the same way: each of its phrases names an item that stands for it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Promise:
    """quick: cases of tests named by the number, at least. full: what `make prove` adds. files: where they stand."""

    words: str
    quick: int
    full: str
    files: tuple[str, ...]


HERE = "tests.hostile.test_"
READERS = ("torch_zip", "torch_legacy", "safetensors", "npz", "mindspore", "tensorflow", "hdf5", "sharded")
ALL = tuple(f"{HERE}hostile_{name}" for name in READERS) + tuple(
    f"{HERE}{name}" for name in ("front_door", "mutants", "races", "conversions")
)

PICTURES = tuple(f"tests.pictures.test_{name}" for name in ("decode", "decode_hostile", "made", "policy"))

NAMES, LISTS_OF_LABELS, TREES, CLASSES = (
    f"tests.data.test_{name}" for name in ("hostile_names", "hostile_lists", "tree", "classes")
)
RANKS = tuple(f"tests.ranks.test_{name}" for name in ("ranks", "two_ranks", "lost_ranks"))
CHANGING = ("tests.data.test_changing_files",)

(CHECKPOINT, LOOP, STATE, JOURNAL, RESUME, DISK) = (
    *(f"tests.training.test_{name}" for name in ("checkpoint", "loop", "state", "journal")),
    "tests.verbs.test_resume", "tests.test_disk",
)  # fmt: skip
MANIFEST = "tests.bundle.test_manifest"
RUNS = ("tests.training.test_step", "tests.training.test_loop", "tests.training.test_watch", "tests.verbs.test_replay")

PROMISES: dict[str, Promise] = {
    "A01": Promise("a kill at any call of a save leaves the old generation or the new", 2,
                   "each call of 5 kinds of save", (CHECKPOINT,)),
    "A02": Promise("an error at any call of a save is told and harmless", 7,
                   "each error at each call, once and for ever", (CHECKPOINT, JOURNAL, LOOP)),
    "A03": Promise("too little memory in a save or a load is harmless", 20, "500 limits",
                   ("tests.training.test_short_memory",)),
    "A04": Promise("a power loss leaves the old generation or the new", 300, "20,000 states",
                   ("tests.training.test_power_loss",)),
    "A05": Promise("a damaged newest generation falls back, once said", 57, "every byte of every member",
                   (CHECKPOINT, RESUME)),
    "A06": Promise("`latest` is advice only", 9, "the same", (CHECKPOINT,)),
    "A07": Promise("old generations go after the new one is sure", 4, "each call, with A1", (CHECKPOINT,)),
    "A08": Promise("a resume has the bits of an unbroken run", 80, "the same",
                   (*RUNS, STATE, "tests.training.test_due", "tests.verbs.test_mirror", RESUME)),
    "A09": Promise("any number of workers, any start: the same batches", 4, "the same", ("tests.data.test_loader",)),
    "A10": Promise("... whatever is on: each setting, and pairs of them", 17, "42 settings, 30 pairs, compiled blocks",
                   ("tests.training.test_recompute", "tests.verbs.test_settings")),
    "A11": Promise("many kills, the same weights", 2, "200 kills x 3 seeds, 20 of each family", (LOOP, RESUME)),
    "A12": Promise("what would change a resume's bits is refused, or allowed and marked", 25, "the same",
                   ("tests.verbs.test_drift",)),
    "A13": Promise("the world's size may change: the same pictures, 1e-5 a step", 18, "the same", RANKS),
    "A14": Promise("uneven parts never hang, no picture counts twice", 32, "the same", RANKS),
    "A15": Promise("a dead rank ends the run, and is named", 1, "30 moments", RANKS),
    "A16": Promise("a step, a save or a rank that stands still ends the run, named, with all stacks", 4, "the same",
                   ("tests.training.test_stall", *RANKS)),
    "A17": Promise("a step with NaN or Inf changes nothing, and is replayed to the bit", 80, "400", RUNS),
    "A18": Promise("nothing broken is saved as good or loaded: checkpoints, captures", 85, "100",
                   ("tests.training.test_state", "tests.training.test_watch", "tests.verbs.test_replay")),
    "A19": Promise("a signal ends the step, saves, and leaves with 75", 9, "2 signals to two ranks",
                   (LOOP, "tests.ranks.test_lost_ranks")),
    "A20": Promise("no clock decides anything but a time limit", 5, "the same",
                   (CHECKPOINT, "tests.training.test_due")),
    "A21": Promise("two runs in one folder: the second is refused", 5, "the same", ("tests.test_locks",)),
    "A22": Promise("space is asked for before a save", 7, "the same", (CHECKPOINT,)),
    "A23": Promise("odd folders work or are refused", 7, "the same", (DISK,)),
    "A24": Promise("each row of a journal is whole or absent, told once", 19, "200 kills, with A11",
                   (JOURNAL, "tests.training.test_lines", "tests.training.test_trackers", LOOP)),
    "A25": Promise("the golden checkpoint loads; another version is refused", 8, "the same", (CHECKPOINT,)),
    "A26": Promise("what is saved is the state of its step", 1, "the same", (STATE,)),
    "B01": Promise("no picture crashes, hangs or stops a run", 250, "2,000,000 mutants", PICTURES),
    "B02": Promise("the pixel limit is an error before decoding", 25, "1,000 sizes of each format", PICTURES),
    "B03": Promise("only named decoders are ever called", 15, "the same", PICTURES),
    "B04": Promise("a cut picture is an error, never grey", 50, "every length of 20 files", PICTURES),
    "B05": Promise("decoders say nothing on the terminal", 200, "5,000 mutants of TIFF and of others", PICTURES),
    "B06": Promise("the same bytes give the same tensor", 150, "1,000 pictures x workers {0, 2} x 3 runs", PICTURES),
    "B07": Promise("names of files are bytes: HD 6", 38, "the same", (NAMES,)),
    "B08": Promise("links stay inside the folder and end: HD 4, 5", 20, "the same", (TREES,)),
    "B09": Promise("classes are matched by name: HD 7, 8", 19, "5,000 random pairs, 500 of folders",
                   (CLASSES, "tests.verbs.test_class_order")),
    "B10": Promise("lists of labels and CIFAR are held before the first step: HC, HD 8", 70, "10,000 mutants",
                   (LISTS_OF_LABELS,)),
    "B11": Promise("pickles are read by an allow-list, never executed", 29, "200,000 mutants",
                   ("tests.formats.test_cifar", "tests.formats.test_pickles")),
    "B12": Promise("archives: nothing outside, nothing left", 240, "50,000 mutants, a million members",
                   (f"{HERE}archives", "tests.data.test_archive")),
    "B13": Promise("fetches that break midway", 60, "300 random schedules",
                   ("tests.test_remote", "tests.test_remote_storage")),
    "B14": Promise("the index of huge folders, kept and never stale", 26, "3 times 1,000,000 files", (TREES,)),
    "B15": Promise("files that change during a run: a bad picture, never a wrong label", 20, "200 moments", CHANGING),
    "B16": Promise("overlap and copies are counted exactly", 2, "100,000 files", CHANGING),
    "B17": Promise("the order of samples is frozen", 12, "1,000 seeds, in the quick tests",
                   ("tests.test_randomness", "tests.data.test_loader")),
    "B18": Promise("a reader that hangs, fails or lacks memory is named", 12, "40 hangs", CHANGING),
    "B19": Promise("work is bounded before decoding", 28, "1,000 pictures of many scans", PICTURES),
    "C01": Promise("loading never runs code from a file", 60, "500,000 mutants of legacy pickles; texts", ALL),
    "C02": Promise(".pth is read by an own opcode reader", 45, "1,000,000 mutants", ALL),
    "C03": Promise("safetensors: stricter than the reference", 55, "1,000,000 mutants against the reference", ALL),
    "C04": Promise("npz: strict, no pickles, exact lengths", 35, "500,000 mutants against NumPy", ALL),
    "C05": Promise("MindSpore, TensorFlow: own bounded reader", 30, "500,000 mutants each", ALL),
    "C06": Promise("HDF5, .keras: in a child that opens nothing", 25, "100,000 mutants", ALL),
    "C07": Promise("declared sizes are held against real bytes", 40, "every item", ALL),
    "C08": Promise("names that collide are refused, both named", 12, "every item", ALL),
    "C09": Promise("no reference leaves the folder", 30, "100,000 mutants of an index",
                   (*ALL, "tests.formats.test_formats", "tests.formats.test_sharded")),
    "C10": Promise("the hash before the first byte is parsed", 30, "every item", (*ALL, "tests.formats.test_formats")),
    "C11": Promise("the bytes used are the bytes checked", 9, "200,000 loads", (*ALL, "tests.formats.test_held")),
    "C12": Promise("a conversion is all or nothing", 40, "every tensor of a tiny file of each world",
                   (*ALL, "tests.weights.test_loading", "tests.weights.test_translate", "tests.weights.test_worlds")),
    "C13": Promise("a manifest is whole: fields, sizes, hashes; it is read whole or refused", 30, "every single byte",
                   (MANIFEST, "tests.engines.test_formats", "tests.cpp.test_engines")),
    "C14": Promise("licences are stated or unknown, shown, handed on", 12, "the same", ("tests.bundle.test_licences",)),
    "C15": Promise("the same bytes every time", 8, "the same",
                   ("tests.bundle.test_write", "tests.engines.test_onnx_export", "tests.engines.test_formats",
                    "tests.proof.test_export_verify", "tests.weights.test_torch_file", "tests.formats.test_safetensors",
                    "tests.formats.test_hdf5", "tests.formats.test_mindspore")),
    "C16": Promise("the proof is a gate, and every sabotage is caught", 60, "every fault in a graph, every family",
                   ("tests.engines.test_formats", "tests.engines.test_opened", "tests.cpp.test_engines",
                    *(f"tests.proof.test_{name}" for name in ("quantize", "export_verify", "prove", "families")))),
    "C17": Promise("no graph exhausts the engine", 15, "2,000 changed graphs",
                   ("tests.engines.test_graph", "tests.cpp.test_bundles", "tests.cpp.test_engines")),
    "C18": Promise("programs run only where trusted, by operations of ours", 6, "each, in the quick tests",
                   ("tests.engines.test_operations", "tests.engines.test_formats", "tests.cpp.test_engines")),
    "C19": Promise("a fuzzer that follows coverage finds nothing", 13, "`python -m tests.hostile.fuzz NAME SECONDS`",
                   (f"{HERE}corpus",)),
    "C20": Promise("downloads: hashes hold, https, nothing is run", 10, "the same",
                   ("tests.test_remote", "tests.test_remote_storage")),
    "C21": Promise("a file that changes while it is read: refused, or the right bytes", 5, "the same",
                   ("tests.test_disk", "tests.formats.test_held", "tests.cpp.test_bundles")),
    "E01": Promise("C++ has Python's verdicts", 10, "every byte of a manifest, every hostile picture, 32,000 mutants",
                   ("tests.cpp.test_bundles", "tests.cpp.test_pixels")),
    "E02": Promise("clean under sanitizers", 0, "address, undefined behaviour, threads",
                   ("tests.cpp.test_sanitized", "tests.cpp.test_threads")),
    "E03": Promise("fuzzed", 0, "pictures, manifests and graphs, 200 s each", ("tests.cpp.test_fuzzed",)),
    "E04": Promise("every failed allocation is survived", 1, "each of each question", ("tests.cpp.test_failing",)),
    "E05": Promise("every failed call to the disk is survived", 1, "the same", ("tests.cpp.test_failing",)),
    "E06": Promise("no exception crosses the interface; eight threads on one", 4, "with a sanitizer, E2",
                   ("tests.cpp.test_answers", "tests.cpp.test_engines")),
    "E07": Promise("pixels and logits are Python's", 40, "1,000 made pictures, 1,000 photographs, 1,000 sizes",
                   ("tests.cpp.test_pixels", "tests.cpp.test_answers", "tests.cpp.test_engines")),
    "E08": Promise("sizes at the edges of integers", 40, "the same", ("tests.cpp.test_integers",)),
    "E09": Promise("a hardened build", 2, "the same", ("tests.cpp.test_answers",)),
    "E10": Promise("a long run is flat", 1, "a million answers, 10,000 openings", ("tests.cpp.test_answers",)),
}  # fmt: skip

# The phrases of the hostile lists -> items (of `items.py`) that stand for them. What is no single file has a test of
# its own: links and races of folders, messages above 2 GiB, configurations of Keras, plain values that must load.
LISTS: dict[str, dict[str, tuple[str, ...]]] = {
    "safetensors": {
        "empty": ("empty",), "7 bytes": ("7 bytes",), "n = 0": ("length 0",), "n = 1": ("length 1",),
        "n = file size": ("length of the file",), "n = 100,000,001": ("length 100000001",),
        "n = 2^63": ("length 2^63",),
        "n = 2^64-1": ("length 2^64-1",), "header not UTF-8": ("not UTF-8",), "array": ("array",),
        "scalar": ("scalar",), "blanks before or after": ("blank before", "newline after"), "NaN": ("NaN",),
        "100,000 nestings": ("100000 nestings",), "300,000 entries": ("300000 entries",), "BOM": ("byte order mark",),
        "5e7-digit number": ("number of 10^7 digits",),
        "duplicate keys": ("name twice, same range", "name twice, other range"), "overlap": ("overlap",),
        "same range twice": ("same range",), "hole": ("hole", "hole before"), "trailing data": ("trailing byte",),
        "truncated": ("cut off",), "begin > end": ("begin after end",), "negative offset": ("negative offset",),
        "float offset": ("float offset",), "2^63 offset": ("offset 2^63",), "string offset": ("text offset",),
        "shape negative": ("negative size",), "2^64": ("size 2^64",), "overflow to 4": ("product overflows to 4",),
        "1,000,000 ones": ("a million ones",), "zero dimension": ("zero hides 2^62",),
        "dtype unknown": ("unknown dtype",), "sub-byte odd": ("sub-byte",), "BOOL 7": ("BOOL 7",),
        "F8": ("8-bit float",), "metadata number": ("metadata number",), "nested": ("metadata nested",),
        "10 MB": ("metadata 10 MB",), "control characters": ("metadata escape sequence", "metadata NUL"),
        "names": ("name empty", "name ../x", "name NUL", "name absolute", "name backslash", "name 513 bytes"),
        "polyglot with zip": ("safetensors, then zip", "zip"),
    },
    "index": {
        "../x": ("../x",), "absolute": ("absolute",), "URL": ("URL", "file URL"), "twice": ("tensor twice",),
        "itself": ("itself",),
    },
    "npz": {
        "bzip2, lzma": ("bzip2", "lzma"), "ratio > 200": ("1000 times 40 MiB",),
        "duplicate and shadowed names": ("name twice", "a member without the ending hides one"),
        "../x": ("name ../x",), "object dtype": ("objects",), "structured with object": ("records with objects",),
        "call": ("header a call", "header with a call inside"), "parentheses": ("header of nested parentheses",),
        "not a dict": ("header a list", "header a set"), "missing key": ("key missing",),
        "extra key": ("key too much",),
        "20 kB": ("header of 20 kB",), "v2 with 4 GiB": ("header of 4 GiB",), "version 9.9": ("version 9.9",),
        "shape negative": ("negative size",), "overflow": ("product overflows to 6",), "bool": ("size a bool",),
        "float": ("size a float",), "huge": ("1 TiB of elements",), "trailing bytes": ("trailing bytes",),
        "missing bytes": ("missing bytes",), "CRC wrong": ("CRC wrong", "CRC wrong, deflated"),
        "local against central": ("local name differs", "local size differs", "local CRC differs"),
        "zip64": ("zip64 sizes that are absent", "zip64 locator to nowhere"), "encrypted": ("encrypted",),
        "raw pickle": ("a raw pickle under the name",),
    },
    "torch_zip": {
        "GLOBAL": ("os.system by GLOBAL and REDUCE",), "STACK_GLOBAL": ("os.system by STACK_GLOBAL",),
        "INST": ("os.system by INST",), "NEWOBJ": ("os.system by NEWOBJ", "os.system by NEWOBJ_EX"),
        "BUILD": ("BUILD on a tensor", "BUILD twice"), "EXT1-4": ("EXT1", "EXT2", "EXT4"),
        "memo tricks": ("os.system from the memo",), "legacy raw pickle": ("raw pickle",),
        "TorchScript": ("TorchScript",),
        "SETITEM": ("SETITEM on a list", "SETITEMS on an int", "SETITEM on a tensor"),
        "numel 2^40": ("2^40 elements declared",), "storage shorter": ("storage shorter than declared",),
        "longer": ("storage longer than declared",), "missing": ("storage missing",),
        "../../x": ("storage key ../../x",),
        "two dtypes": ("storage of two types",), "stride escape": ("stride beyond the storage",),
        "stride negative": ("stride negative",), "0 x 2^40": ("stride 0 and 2^40",),
        "offset negative": ("offset negative",),
        "offset beyond": ("offset beyond",), "dtype class of another module": ("storage type from another module",),
        "nested lists": ("100000 nested lists",), "tuples": ("200000 nested tuples",), "expansion": ("2^30 expansion",),
        "BINUNICODE": ("BINUNICODE of 4 GiB",), "LONG4": ("LONG4 negative",),
        "FRAME": ("FRAME beyond the end", "FRAME that cuts an opcode", "FRAME in a frame"),
        "two data.pkl": ("two data.pkl of one name",), "version 10^9": ("version 10^9",),
        "byteorder": ("byte order big", "byte order middle"), "sparse": ("sparse",), "quantised": ("quantised",),
        "nested": ("nested tensor",), "meta": ("meta",), "10,000 hooks": ("10000 hooks",),
        "optimizer objects": ("an optimizer's class",),
    },
    "torch_legacy": {"legacy tar": ("a tar, as before torch 0.1.10",), "legacy raw pickle": ("a raw pickle",)},
    "mindspore": {
        "varint of 11 bytes": ("number of 11 bytes",), "length beyond file": ("length beyond the file",),
        "length 2^63": ("length 2^63",), "type mismatch": ("name a number", "tensor a number"),
        "unknown fields": ("unknown field", "unknown field in a tensor"), "10^6 dims": ("a million sizes",),
        "dims overflow": ("product overflows to 6", "product 2^64"),
        "dims against data": ("too few elements", "too many elements"), "dtype unknown": ("type unknown",),
        "dtype 10 MB": ("type of 10 MB",), "duplicate names": ("name twice",),
        "nesting 10,000": ("10000 nested entries", "10000 nested tensors"), "CRC wrong": ("CRC wrong",),
        "encrypted": ("encrypted, GCM", "encrypted, CBC"),
    },
    "tensorflow": {
        "shard count 10^9": ("10^9 shards",), "snappy": ("snappy of 2^62", "snappy too short"),
        "block CRC": ("CRC of a block",), "block length": ("block over the index",),
        "varint of 11 bytes": ("number of 11 bytes",), "nesting": ("nested 10000 deep",), "names": ("name ../x",),
    },
    "hdf5": {
        "external storage": ("external storage in /etc/passwd",),
        "ExternalLink": ("external link to a dataset", "external link as a middle part"),
        "SoftLink": ("soft link to a dataset", "soft link as a middle part"),
        "link loops": ("two soft links to each other", "soft link to itself"), "hard-link cycle": ("hard link cycle",),
        "virtual": ("virtual dataset of a sibling", "virtual dataset of /etc/passwd"), "4 GB": ("4 GB never written",),
        "gzip": ("gzip 1:1000",), "filters": ("filter of 65535", "filter unknown, optional"),
        "vlen": ("texts of varying length", "lists of varying length"), "reference": ("references",),
        "compound": ("compound",), "3,000 groups": ("3000 nested groups",), "..": ("name ..",),
    },
}  # fmt: skip
