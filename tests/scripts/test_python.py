#!/usr/bin/env python3
"""Tests the Python binding against the shared library of a build folder.

  test_python.py BUILD_DIR [unittest options]

Tests that need a model use the shared test data ($LLMO_SHARED, else ../shared beside the source tree) and are skipped
with the reason where it is absent.
"""
import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("LLMO_SHARED") or SOURCE.parent / "shared")
MODELS = SHARED / "data" / "models"
GOLDEN = SHARED / "data" / "golden"
F32 = MODELS / "stories260K.gguf"
PACKAGE = SOURCE / "bindings" / "python" / "llmoffload"
PROMPT = "Once upon a time"
LIBRARY = ""  # set from the arguments, before the import
ll = None


def import_elsewhere(library, package=PACKAGE):
    """Imports the package in a process of its own; its exit code and last line of output."""
    environment = os.environ | {"PYTHONPATH": os.fspath(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("LLMOFFLOAD_LIBRARY", None)
    if library:
        environment["LLMOFFLOAD_LIBRARY"] = library
    code = "import llmoffload; print(llmoffload.library_path)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    return done.returncode, (done.stdout + done.stderr).strip().split("\n")[-1]


class Import(unittest.TestCase):
    def changed_package(self, pattern, replacement):
        """A copy of the package with one change to _structs.py."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        copy = Path(folder.name) / "llmoffload"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        path = copy / "_structs.py"
        text, count = re.subn(pattern, replacement, path.read_text())
        self.assertEqual(count, 1)
        path.write_text(text)
        return copy

    def test_the_library_named_by_the_environment_is_used(self):
        self.assertEqual(import_elsewhere(LIBRARY), (0, LIBRARY))
        code, line = import_elsewhere("/no/such/library.so")
        self.assertEqual(code, 1)
        self.assertIn("/no/such/library.so", line)

    def test_the_library_beside_the_package_is_found(self):
        copy = self.changed_package(r'"""The structs', '"""Structs')
        shutil.copy(LIBRARY, copy / "libllmoffload.so")
        self.assertEqual(import_elsewhere(None, copy), (0, str(copy / "libllmoffload.so")))

    def test_another_library_is_refused(self):
        code, line = import_elsewhere("libc.so.6")
        self.assertEqual(code, 1)
        self.assertIn("ImportError", line)
        self.assertIn("llmo_version", line)

    def test_another_abi_is_refused_naming_both(self):
        copy = self.changed_package(r"ABI_MAJOR = \d+", "ABI_MAJOR = 99")
        code, line = import_elsewhere(LIBRARY, copy)
        self.assertEqual(code, 1)
        self.assertIn("ImportError", line)
        self.assertIn("ABI 99", line)
        self.assertIn("ABI 0", line)

    def test_an_older_library_is_refused(self):
        copy = self.changed_package(r"VERSION = \(0, 1, 0\)", "VERSION = (0, 200, 0)")
        code, line = import_elsewhere(LIBRARY, copy)
        self.assertEqual(code, 1)
        self.assertIn("0.200.0", line)
        self.assertIn(ll.library_version(), line)

    def test_a_struct_of_another_size_is_refused_naming_both_sizes(self):
        copy = self.changed_package(r'\("pre_tokenizer", char_p\)\]', '("pre_tokenizer", char_p), ("more", u64)]')
        code, line = import_elsewhere(LIBRARY, copy)
        self.assertEqual(code, 1)
        self.assertIn("ImportError", line)
        self.assertIn("ModelParams has 16 bytes", line)
        self.assertIn("24 bytes", line)

    def test_every_struct_has_the_layout_of_the_header(self):
        from llmoffload import _structs

        if ctypes.sizeof(ctypes.c_void_p) != 8:
            self.skipTest("the expected layout is that of 64-bit machines")
        structs = {name: kind for name, kind in vars(_structs).items() if isinstance(kind, type) and issubclass(kind, ctypes.Structure)}
        checked, current = set(), None
        for line in (SOURCE / "tests" / "abi" / "layout.expected").read_text().split("\n"):
            if match := re.match(r"struct llmo_(\w+) size (\d+)", line):
                current = structs.get("".join(part.capitalize() for part in match[1].split("_")))
                if current:
                    self.assertEqual(ctypes.sizeof(current), int(match[2]), line)
                    checked.add(current)
            elif current and (match := re.match(r"\s+(\w+) offset (\d+) size (\d+)", line)):
                field = getattr(current, match[1])
                self.assertEqual((field.offset, field.size), (int(match[2]), int(match[3])), f"{current.__name__}: {line}")
        self.assertEqual(checked, set(structs.values()))

    def test_the_numbers_are_those_of_the_header(self):
        from llmoffload import _structs

        header = (SOURCE / "include" / "llmoffload.h").read_text()
        statuses = {int(number): name for number, name in re.findall(r"X\((\d+), (\w+),", header)}
        self.assertEqual(_structs.STATUS_NAMES, statuses)
        stops = re.findall(r"LLMO_STOP_(\w+) = (\d+)", header)
        self.assertEqual(_structs.STOP_NAMES, tuple(name.lower() for name, _ in sorted(stops, key=lambda s: int(s[1]))))
        purposes = re.findall(r"LLMO_PURPOSE_(\w+) = \d+", header)
        self.assertEqual(_structs.PURPOSES, tuple(name.lower() for name in purposes if name != "COUNT"))
        declared = set(re.findall(r"LLMO_API [^;]*?\b(llmo_\w+)\(", header))
        self.assertLessEqual(set(_structs.SIGNATURES), declared)


class WithoutModel(unittest.TestCase):
    def test_a_missing_file_is_an_error_with_status_and_sentence(self):
        with self.assertRaises(ll.Error) as caught:
            ll.Model("/no/such/model.gguf")
        self.assertEqual((caught.exception.status, caught.exception.name), (100, "E_IO"))
        self.assertIn("/no/such/model.gguf", caught.exception.message)

    def test_runtime_lists_the_cpu_first(self):
        with ll.Runtime(2) as runtime:
            self.assertEqual(runtime.threads, 2)
            self.assertEqual(runtime.devices()[0].kind, "cpu")
            self.assertEqual(any(d.kind == "cuda" for d in runtime.devices()), runtime.gpu_note == "")
            self.assertGreater(runtime.memory(), 0)
        with self.assertRaises(ValueError):
            runtime.devices()
        for threads in (0, -1, 513, 2**40):
            with self.subTest(threads), self.assertRaises((ll.Error, ValueError)):
                ll.Runtime(threads)


@unittest.skipUnless(F32.exists(), f"no shared test data: {F32} is not there")
class WithModel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.golden = json.loads((GOLDEN / "ppl.json").read_text())
        cls.model = ll.Model(F32)
        cls.context = cls.model.context(n_ctx=512, n_sequences=4, kv="f32")

    @classmethod
    def tearDownClass(cls):
        cls.context.close()
        cls.model.close()

    def greedy(self, **options):
        return self.context.generate(PROMPT, **({"max_tokens": 60, "temperature": 0} | options))

    def test_info_and_meta(self):
        info = self.model.info
        self.assertEqual((info.architecture, info.n_layers, info.n_vocab), ("llama", 5, 512))
        self.assertEqual(info.file_bytes, F32.stat().st_size)
        self.assertEqual(self.model.meta()["general.architecture"], "llama")
        self.assertEqual((self.model.special_token("bos"), self.model.special_token("eos")), (1, 2))
        self.assertIsNone(self.model.special_token("eot"))

    def test_tokens(self):
        wanted = self.golden["generation"][0]["prompt_tokens"]
        self.assertEqual(self.model.tokenize(PROMPT), wanted)
        self.assertEqual(self.model.tokenize(PROMPT, add_special=False), wanted[1:])
        self.assertEqual(self.model.detokenize(wanted), PROMPT)
        self.assertEqual(self.model.detokenize([2], special=True), "</s>")
        self.assertIn(2, self.model.tokenize("</s>", parse_special=True))
        story = (GOLDEN / "story.txt").read_bytes()
        tokens = self.model.tokenize(story)
        self.assertEqual(tokens, self.golden["tokens"])
        self.assertEqual(self.model.detokenize_bytes(tokens), story)
        self.assertEqual(self.model.detokenize_bytes(self.model.tokenize(b"a\0\xff")), b"a\0\xff")

    def test_tokens_outside_the_vocabulary(self):
        with self.assertRaises(ll.Error) as caught:
            self.model.detokenize([512])
        self.assertEqual(caught.exception.name, "E_ARG")
        with self.assertRaises(OverflowError):
            self.model.detokenize([2**32 + 1])

    def test_generate_is_the_golden_text(self):
        text = self.greedy()
        self.assertGreater(len(text), 50)
        self.assertTrue(self.golden["generation"][0]["text"].startswith(text))
        self.assertEqual(self.greedy(), text, "each call has a sequence of its own")

    def test_generate_from_tokens(self):
        tokens = self.golden["generation"][0]["prompt_tokens"]
        self.assertEqual(self.context.generate(tokens, max_tokens=60, temperature=0), self.greedy())

    def test_stream_gives_the_same_text_in_pieces(self):
        with self.greedy(stream=True, budget_us=None) as generation:  # a pass, and so a token, at a time
            pieces = list(generation)
            self.assertEqual(generation.tokens, self.golden["generation"][0]["greedy"][:60])
            info = generation.info()
        self.assertEqual((info.done, info.stop, info.n_prompt, info.n_generated), (True, "length", 5, 60))
        self.assertGreater(len(pieces), 10)
        self.assertEqual("".join(pieces), self.greedy())
        self.assertEqual(self.greedy(budget_us=50), self.greedy(budget_us=None))

    def test_a_stream_left_early_gives_its_sequence_back(self):
        for _ in range(10):  # more than n_sequences
            generation = self.greedy(stream=True)
            next(generation)
            generation.close()
        self.assertEqual(self.context.stats()["n_sequences"], 0)
        self.assertEqual(self.context.stats()["n_generations"], 0)

    def test_cancel_ends_the_stream(self):
        with self.greedy(stream=True, max_tokens=400, ignore_end=True) as generation:
            next(generation)
            generation.cancel()
            self.assertLess(len(list(generation)), 50)
            self.assertEqual(generation.info().stop, "cancel")

    def test_stop_strings_and_bias(self):
        self.assertEqual(self.greedy(stop="Lily"), self.golden["generation"][0]["text"].split("Lily")[0])
        self.assertEqual(self.greedy(stop=["zebra", "girl"]), self.golden["generation"][0]["text"].split("girl")[0])
        first = self.golden["generation"][0]["greedy"][0]
        with self.greedy(stream=True, logit_bias={first: float("-inf")}, max_tokens=5) as generation:
            generation.run()
            self.assertNotIn(first, generation.tokens)

    def test_sampling_follows_the_seed(self):
        def sample(seed):
            return self.context.generate(PROMPT, max_tokens=40, temperature=1.5, top_k=0, seed=seed)

        self.assertEqual(sample(3), sample(3))
        self.assertGreater(len({sample(seed) for seed in range(5)}), 1)

    def test_eval_gives_logits_per_token(self):
        tokens = self.golden["generation"][0]["prompt_tokens"]
        with self.context.sequence() as sequence:
            rows = sequence.eval(tokens, n_logits=2)
            self.assertEqual((len(rows), len(rows[0]), len(sequence)), (2, 512, len(tokens)))
            best = max(range(512), key=lambda i: rows[1][i])
            self.assertEqual(best, self.golden["generation"][0]["greedy"][0])
            self.assertEqual(sequence.tokens, tokens)
            self.assertEqual(len(sequence.eval([5], n_logits=0)), 0)
            with self.assertRaises(ValueError):
                sequence.eval([5], n_logits=2)
            with self.assertRaises(ll.Error):
                sequence.eval([512])
            self.assertEqual(len(sequence), len(tokens) + 1, "a failed call leaves the sequence as it was")

    def test_sequences_fork_and_truncate(self):
        tokens = self.golden["generation"][0]["prompt_tokens"]
        with self.context.sequence() as sequence:
            sequence.eval(tokens, 0)
            with sequence.fork() as fork:
                self.assertEqual(fork.tokens, tokens)
                fork.truncate(2)
                self.assertEqual(fork.tokens, tokens[:2])
            self.assertEqual(sequence.tokens, tokens)
            with sequence.fork(3) as fork:
                self.assertEqual(fork.tokens, tokens[:3])
            reply = sequence.generate([403], max_tokens=4, temperature=0)
            self.assertTrue(reply)
            self.assertEqual(sequence.tokens[: len(tokens) + 1], tokens + [403])

    def test_a_full_context_is_an_error(self):
        with self.assertRaises(ll.Error) as caught:
            self.context.generate([1] * 600)
        self.assertEqual(caught.exception.name, "E_CONTEXT_FULL")
        sequences = [self.context.sequence() for _ in range(4)]
        with self.assertRaises(ll.Error):
            self.context.sequence()
        for sequence in sequences:
            sequence.close()

    def test_wrong_options_are_refused(self):
        for options in ({"frobnicate": 1}, {"struct_size": 3}, {"n_bias": 1}, {"logits": 5}):
            with self.subTest(options), self.assertRaises(TypeError):
                self.context.generate(PROMPT, **options)
        for options in ({"top_k": 2**40}, {"max_tokens": -1}, {"stop": "a\0b"}):
            with self.subTest(options), self.assertRaises(ValueError):
                self.context.generate(PROMPT, **options)
        with self.assertRaises(ll.Error):
            self.context.generate(PROMPT, temperature=-1)
        with self.assertRaises(TypeError):
            self.model.tokenize(3)
        with self.assertRaises(ValueError):
            self.model.context(kv="f64")
        self.assertEqual(self.context.stats()["n_sequences"], 0)

    def test_the_plan_is_what_the_context_takes(self):
        with self.model.plan(n_ctx=128) as plan, self.model.context(plan) as context:
            self.assertEqual(plan.params["n_ctx"], 128)
            for purpose in ("weights", "kv", "compute", "logits", "state"):
                self.assertEqual(plan.memory(0, purpose), context.memory(0, purpose), purpose)
            with self.assertRaises(TypeError):
                self.model.context(plan, n_ctx=5)
        with self.assertRaises(ll.Error) as caught:
            self.model.plan(ram=4096)
        self.assertEqual(caught.exception.name, "E_BUDGET")

    def test_progress_is_called_and_may_stop_the_load(self):
        calls = []
        with ll.Model(F32) as model:
            with self.assertRaises(KeyError):
                model.context(progress=lambda done, total: {}["stop"])
            with model.context(n_ctx=64, progress=lambda done, total: calls.append((done, total))):
                pass
        self.assertTrue(calls)
        self.assertEqual(calls[-1][0], calls[-1][1])

    def test_closing_in_any_order(self):
        model = ll.Model(F32, threads=1)
        context = model.context(n_ctx=64)
        model.close()
        generation = context.generate([1, 403], stream=True, max_tokens=5)
        next(generation)
        context.close()
        self.assertTrue(generation.closed)
        with self.assertRaises(ValueError):
            next(generation)
        generation.close()
        context.close()
        with self.assertRaises(ValueError):
            context.sequence()

    def test_two_contexts_in_two_threads(self):
        wanted = self.greedy()
        got = {}

        def work(number):
            with self.model.context(n_ctx=256, kv="f32") as context:
                got[number] = context.generate(PROMPT, max_tokens=60, temperature=0)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(got, {0: wanted, 1: wanted})

    def test_log_lines_reach_python(self):
        lines = []
        with ll.Runtime(1, log=lambda level, line: lines.append((level, line)), log_level="debug") as runtime:
            with ll.Model(F32, runtime=runtime) as model, model.context(n_ctx=64):
                pass
        for level, line in lines:
            self.assertIn(level, ("error", "warn", "info", "debug"))
            self.assertNotIn("\n", line)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: test_python.py BUILD_DIR [unittest options]")
    LIBRARY = os.path.join(os.path.abspath(sys.argv.pop(1)), "libllmoffload.so")
    if not os.path.exists(LIBRARY):
        sys.exit(f"test_python.py: {LIBRARY} is not there; build it first")
    os.environ["LLMOFFLOAD_LIBRARY"] = LIBRARY
    sys.dont_write_bytecode = True
    sys.path.insert(0, os.fspath(PACKAGE.parent))
    import llmoffload as ll

    if not F32.exists():
        print(f"skipping what needs shared test data: {F32} is not there")
    unittest.main()
