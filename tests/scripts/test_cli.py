#!/usr/bin/env python3
"""Runs the llmo tool of a build folder as its users do: every command, its help, its errors, its numbers.

  test_cli.py BUILD_DIR [unittest options]

Golden values come from the shared test data ($LLMO_SHARED, else ../shared beside the source tree); tests that need it
are skipped with the reason where it is absent. The library's own correctness is tested elsewhere: here it is what the
tool makes of it.
"""
import array
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("LLMO_SHARED") or SOURCE.parent / "shared")
MODELS = SHARED / "data" / "models"
GOLDEN = SHARED / "data" / "golden"
F32 = MODELS / "stories260K.gguf"
TOOL = ""  # set from the arguments
COMMANDS = ("info", "plan", "devices", "run", "chat", "tokenize", "detokenize", "logits", "perplexity")
PROMPT = "Once upon a time"


def llmo(*arguments, stdin=b"", timeout=120):
    """Exit code, standard output and standard error, as bytes; a hang fails the test."""
    command = [TOOL, *map(os.fspath, map(lambda a: a if isinstance(a, (str, bytes, Path)) else str(a), arguments))]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout)
    return done.returncode, done.stdout, done.stderr


def read_floats(path):
    values = array.array("f")
    values.frombytes(Path(path).read_bytes())
    if sys.byteorder == "big":
        values.byteswap()
    return values


class Tool(unittest.TestCase):
    def good(self, *arguments, **options):
        """Standard output of a call that must succeed."""
        code, out, err = llmo(*arguments, **options)
        self.assertEqual(code, 0, f"llmo {arguments}: {err.decode(errors='replace')}")
        return out

    def good_json(self, *arguments, **options):
        out = self.good(*arguments, **options)
        self.assertEqual(out.count(b"\n"), 1, "JSON output is one line")
        return json.loads(out)

    def bad(self, code, *arguments, says=(), **options):
        """A call that must fail with this exit code, one line on standard error and nothing on standard output."""
        got, out, err = llmo(*arguments, **options)
        text = err.decode()
        self.assertEqual(got, code, f"llmo {arguments}: {text}")
        self.assertEqual(out, b"")
        self.assertTrue(text.endswith("\n") and text.count("\n") == 1, f"not one line: {text!r}")
        start = f"llmo: {arguments[0]}: " if arguments and arguments[0] in COMMANDS else "llmo: "
        self.assertTrue(text.startswith(start), text)
        for word in (says,) if isinstance(says, str) else says:
            self.assertIn(word, text)


class Usage(Tool):
    def test_help_lists_every_command(self):
        text = self.good("--help").decode()
        for command in COMMANDS:
            self.assertIn(f"\n  {command} ", text)

    def test_every_command_has_help_with_usage_options_and_example(self):
        for command in COMMANDS:
            with self.subTest(command):
                text = self.good(command, "--help").decode()
                self.assertTrue(text.startswith(f"Usage: llmo {command}"), text)
                self.assertIn("--help", text)
                self.assertIn("\nExample:\n", text)
                self.assertIn(f"llmo {command}", text.split("\nExample:\n")[1])

    def test_help_of_run_shows_the_defaults(self):
        text = self.good("run", "--help", "--temp", "3").decode()
        for line in ("--temp X", "--ctx N", "--threads N|auto", "--logit-bias ID=X", "--budget-us N"):
            self.assertIn(line, text)
        self.assertIn("(default: 0.8)", text)
        self.assertIn("(default: 128)", text)

    def test_version_names_tool_and_library(self):
        self.assertRegex(self.good("--version").decode(), r"^llmo \d+\.\d+\.\d+, libllmoffload \d+\.\d+\.\d+ \(ABI \d+\)\n$")

    def test_wrong_usage_exits_2_with_one_line(self):
        model = ("-m", "x.gguf")
        cases = [
            ((), "no command"),
            (("frobnicate",), "frobnicate"),
            (("run", *model, "-p", "a", "--frobnicate"), "--frobnicate"),
            (("run", *model, "-p"), "-p"),
            (("run", "-p", "a"), "-m"),
            (("run", *model), "--tokens"),
            (("run", *model, "-p", "a", "--tokens", "1"), "only one"),
            (("run", *model, "-p", "a", "stray"), "stray"),
            (("run", *model, "-p", "a", "-n", "12x"), "--max-tokens"),
            (("run", *model, "-p", "a", "-n", ""), "--max-tokens"),
            (("run", *model, "-p", "a", "-n", " 1"), "--max-tokens"),
            (("run", *model, "-p", "a", "-n", "4294967296"), "--max-tokens"),
            (("run", *model, "-p", "a", "--threads", "0"), "--threads"),
            (("run", *model, "-p", "a", "--threads", "513"), "--threads"),
            (("run", *model, "-p", "a", "--kv", "f64"), "--kv"),
            (("run", *model, "-p", "a", "--gpu-layers", "some"), "--gpu-layers"),
            (("run", *model, "-p", "a", "--vram", "8GB"), "--vram"),
            (("run", *model, "-p", "a", "--ram", "99999999999G"), "--ram"),
            (("run", *model, "-p", "a", "--temp", "hot"), "--temp"),
            (("run", *model, "-p", "a", "--temp", "nan"), "--temp"),
            (("run", *model, "-p", "a", "--temp", "-1"), "--temp"),
            (("run", *model, "-p", "a", "--top-p", "1.5"), "--top-p"),
            (("run", *model, "-p", "a", "--seed", "-1"), "--seed"),
            (("run", *model, "-p", "a", "--mirostat", "1"), "--mirostat"),
            (("run", *model, "-p", "a", "--logit-bias", "5"), "--logit-bias"),
            (("run", *model, "-p", "a", "--ids=1"), "--ids"),
            (("run", *model, "--tokens", "1,,2"), "--tokens"),
            (("run", *model, "--tokens", "1,99999999999"), "--tokens"),
            (("logits", *model, "--tokens", "1,2", "--last", "3", "--out", "x"), "--last"),
            (("logits", *model, "--tokens", "1,2"), "--out"),
            (("logits", *model, "--out", "x"), "--tokens"),
            (("perplexity", *model), "-f"),
            (("perplexity", *model, "-f", "x", "--ctx", "2"), "--ctx"),
            (("info",), "-m"),
            (("info", "a", "b"), "b"),
            (("devices", "a"), "a"),
        ]
        for arguments, says in cases:
            with self.subTest(arguments):
                self.bad(2, *arguments, says=says)

    def test_a_control_character_in_an_argument_stays_on_one_line(self):
        self.bad(2, "run", "--x\ny", says="\\n")

    def test_devices_lists_the_cpu_first(self):
        self.assertIn("cpu", self.good("devices").decode())
        found = self.good_json("devices", "--json")
        self.assertEqual(found["devices"][0]["kind"], "cpu")
        self.assertGreater(found["devices"][0]["total_bytes"], 0)
        self.assertGreater(found["threads"], 0)
        has_gpu = any(d["kind"] == "cuda" for d in found["devices"])
        self.assertEqual(has_gpu, found["gpu_note"] == "")

    def test_a_full_disk_is_an_error(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("no /dev/full here")
        with open("/dev/full", "wb") as full:
            done = subprocess.run([TOOL, "devices"], stdout=full, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr.count(b"\n"), 1)


class BadFiles(Tool):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def each(self, path, says=()):
        for command in (("info",), ("tokenize", "-m"), ("plan", "-m"), ("run", "-p", "a", "-m"), ("chat", "-m")):
            with self.subTest(command[0]):
                self.bad(1, *command, path, says=says, timeout=20)

    def test_missing_file(self):
        self.each(self.folder / "none.gguf", says="none.gguf")

    def test_directory(self):
        self.each(self.folder)

    def test_fifo_fails_at_once(self):
        path = self.folder / "fifo"
        os.mkfifo(path)
        self.each(path, says="fifo")

    def test_empty_file(self):
        path = self.folder / "empty.gguf"
        path.write_bytes(b"")
        self.each(path)

    def test_not_a_gguf(self):
        path = self.folder / "text.gguf"
        path.write_text("Once upon a time there was no model.\n" * 100)
        self.each(path)

    def test_missing_prompt_file(self):
        self.bad(1, "run", "-m", "x.gguf", "-f", self.folder / "none.txt", says="none.txt")

    def test_directory_as_prompt_file(self):
        self.bad(1, "run", "-m", "x.gguf", "-f", self.folder)


@unittest.skipUnless(F32.exists(), f"no shared test data: {F32} is not there")
class Golden(Tool):
    @classmethod
    def setUpClass(cls):
        cls.ppl = json.loads((GOLDEN / "ppl.json").read_text())

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    # --- the file --------------------------------------------------------------------------------------------------

    def test_info(self):
        info = self.good_json("info", F32, "--json", "--tensors", "--meta")
        self.assertEqual(info["architecture"], "llama")
        self.assertEqual((info["n_layers"], info["n_embd"], info["n_vocab"]), (5, 64, 512))
        self.assertEqual((info["n_heads"], info["n_kv_heads"], info["head_dim"]), (8, 4, 8))
        self.assertEqual(info["file_bytes"], F32.stat().st_size)
        self.assertEqual(len(info["tensors"]), info["n_tensors"])
        self.assertEqual(sum(t["bytes"] for t in info["tensors"]), info["weights_bytes"])
        self.assertEqual(info["meta"]["general.architecture"], "llama")
        shapes = {t["name"]: t["shape"] for t in info["tensors"]}
        self.assertEqual(shapes["token_embd.weight"], [64, 512])
        text = self.good("info", "-m", F32, "--tensors", "--meta").decode()
        self.assertIn("token_embd.weight", text)
        self.assertIn("general.architecture = llama", text)
        self.assertNotIn("token_embd.weight", self.good("info", F32).decode())

    def test_truncated_file(self):
        whole = F32.read_bytes()
        path = self.folder / "cut.gguf"
        for size in (3, 1000, len(whole) - 4):
            with self.subTest(size):
                path.write_bytes(whole[:size])
                self.bad(1, "run", "-m", path, "-p", "a")

    def test_plan_is_what_run_takes(self):
        plan = self.good_json("plan", "-m", F32, "--json", "--ctx", "256")
        self.assertEqual(plan["params"]["n_ctx"], 256)
        self.assertIsNone(plan["params"]["ram_budget_bytes"])
        self.assertEqual(len(plan["sites"]), 5 * 7 + 1)
        for site in plan["sites"]:
            self.assertTrue(site["row"] and site["tensor"], site)
        run = self.good_json("run", "-m", F32, "--ctx", "256", "-p", "a", "-n", "2", "--json")
        for planned, taken in zip(plan["memory"], run["memory"], strict=True):
            for key in planned:
                if key not in ("host_bytes", "total_bytes"):  # handles are the caller's, no plan predicts them
                    self.assertEqual(planned[key], taken[key], key)

    def test_plan_as_text_groups_equal_matmuls(self):
        text = self.good("plan", "-m", F32).decode()
        self.assertEqual(text.count("blk.*.attn_q.weight"), 1, text)
        self.assertIn("layers 0-4", text)
        self.assertIn("not cpu-ref-q8", text)  # a better row, and why it declined

    def test_a_plan_beyond_the_ram_budget_fails(self):
        self.bad(1, "plan", "-m", F32, "--ram", "64K")

    # --- tokens ----------------------------------------------------------------------------------------------------

    def test_tokenize_story(self):
        story = (GOLDEN / "story.txt").read_bytes()
        out = self.good("tokenize", "-m", F32, stdin=story)
        self.assertEqual(out.count(b"\n"), 1)
        self.assertEqual(json.loads(out), self.ppl["tokens"])
        bare = json.loads(self.good("tokenize", "-m", F32, "--no-bos", stdin=story))
        self.assertEqual(bare, self.ppl["tokens"][1:])
        self.assertEqual(self.good("detokenize", "-m", F32, stdin=json.dumps(bare).encode()), story)

    def test_tokenize_takes_all_bytes(self):
        data = b"a\0b\n\xff"
        ids = self.good("tokenize", "-m", F32, "--no-bos", stdin=data)
        self.assertEqual(self.good("detokenize", "-m", F32, stdin=ids), data)

    def test_no_special_takes_control_tokens_as_text(self):
        control = json.loads(self.good("tokenize", "-m", F32, "--no-bos", stdin=b"</s>"))
        plain = json.loads(self.good("tokenize", "-m", F32, "--no-bos", "--no-special", stdin=b"</s>"))
        self.assertIn(2, control)
        self.assertNotIn(2, plain)
        self.assertEqual(self.good("detokenize", "-m", F32, stdin=b"[2]"), b"</s>")

    def test_detokenize_takes_arrays_and_plain_lists(self):
        ids = self.ppl["generation"][0]["prompt_tokens"][1:]
        for text in (json.dumps(ids), " ".join(map(str, ids)), ",\n".join(map(str, ids)) + "\n"):
            self.assertEqual(self.good("detokenize", "-m", F32, stdin=text.encode()), PROMPT.encode())
        self.assertEqual(self.good("detokenize", "-m", F32, stdin=b"[]"), b"")
        for text in (b"[1", b"1;2", b"-1", b"1.5", b"[1,]", b"99999999999", b"512"):
            with self.subTest(text):
                self.bad(1, "detokenize", "-m", F32, stdin=text)

    # --- run -------------------------------------------------------------------------------------------------------

    def greedy(self, model, *more):
        return json.loads(
            self.good("run", "-m", model, "-p", PROMPT, "-n", "160", "--temp", "0", "--ignore-eos", "--ids", *more)
        )

    def test_greedy_text_is_the_golden_one(self):
        # up to the first token whose margin is within the arithmetic's error: 1e-3 of the logits' range for F32 weights,
        # 1.5 times the reference engine's rms difference for 8-bit activations
        for golden, margin in zip(self.ppl["generation"], (0.04, 0.1, 0.1), strict=True):
            model = GOLDEN / golden["model"]
            with self.subTest(model.name):
                count = next((i for i, m in enumerate(golden["greedy_margin"]) if m < margin), 160)
                self.assertGreater(count, 50)
                ids = self.greedy(model, "--kv", "f32")
                self.assertEqual(len(ids), 160)
                self.assertEqual(ids[:count], golden["greedy"][:count])

    def test_text_is_streamed_without_the_prompt(self):
        code, out, err = llmo("run", "-m", F32, "-p", PROMPT, "-n", "40", "--temp", "0")
        self.assertEqual(code, 0)
        self.assertTrue(self.ppl["generation"][0]["text"].startswith(out.decode().rstrip("\n")), out)
        self.assertIn(b"tok/s", err)
        self.assertEqual(llmo("run", "-m", F32, "-p", PROMPT, "-n", "40", "--temp", "0", "-q")[2], b"")

    def test_prompt_from_file_and_tokens_give_the_same(self):
        golden = self.ppl["generation"][0]
        path = self.folder / "prompt.txt"
        path.write_text(PROMPT)
        wanted = golden["greedy"][:20]
        more = ("-n", "20", "--temp", "0", "--ids")
        tokens = ",".join(map(str, golden["prompt_tokens"]))
        self.assertEqual(json.loads(self.good("run", "-m", F32, "-f", path, *more)), wanted)
        self.assertEqual(json.loads(self.good("run", "-m", F32, "-f", "-", *more, stdin=PROMPT.encode())), wanted)
        self.assertEqual(json.loads(self.good("run", "-m", F32, "--tokens", tokens, *more)), wanted)

    def test_json_has_text_ids_and_figures(self):
        got = self.good_json("run", "-m", F32, "-p", PROMPT, "-n", "30", "--temp", "0", "--json")
        golden = self.ppl["generation"][0]
        self.assertEqual(got["ids"], golden["greedy"][:30])
        self.assertTrue(golden["text"].startswith(got["text"]) and got["text"])
        self.assertEqual((got["stop"], got["prompt_tokens"], got["generated_tokens"]), ("length", 5, 30))
        self.assertGreater(got["prompt_tokens_per_second"], 0)
        self.assertGreater(got["decode_tokens_per_second"], 0)
        self.assertGreater(got["memory"][0]["total_bytes"], 0)

    def test_output_does_not_depend_on_budget_threads_batch_or_mmap(self):
        wanted = self.greedy(F32)
        for more in (("--budget-us", "50"), ("--threads", "1"), ("--threads", "3"), ("--batch", "1"), ("--mmap",)):
            with self.subTest(more):
                self.assertEqual(self.greedy(F32, *more), wanted)

    def test_same_seed_same_text(self):
        def sample(seed):
            return self.good("run", "-m", F32, "-p", PROMPT, "-n", "60", "--seed", seed, "--temp", "1.5", "--top-k", "0")

        self.assertEqual(sample(7), sample(7))
        self.assertGreater(len({sample(seed) for seed in range(5)}), 1)

    def test_stop_string_ends_the_text_before_it(self):
        got = self.good_json("run", "-m", F32, "-p", PROMPT, "--temp", "0", "--stop", "zebra", "--stop", "Lily", "--json")
        self.assertEqual(got["stop"], "string")
        self.assertEqual(got["text"], self.ppl["generation"][0]["text"].split("Lily")[0])

    def test_logit_bias_forbids_a_token(self):
        first = self.ppl["generation"][0]["greedy"][0]
        got = self.good_json("run", "-m", F32, "-p", PROMPT, "-n", "8", "--temp", "0", "--logit-bias", f"{first}=-inf", "--json")
        self.assertNotIn(first, got["ids"])
        self.bad(1, "run", "-m", F32, "-p", PROMPT, "--logit-bias", "512=1")

    def test_the_context_ends_the_text(self):
        got = self.good_json("run", "-m", F32, "-p", PROMPT, "-n", "0", "--temp", "0", "--ignore-eos", "--ctx", "32", "--json")
        self.assertEqual(got["stop"], "context")
        self.assertGreaterEqual(got["prompt_tokens"] + got["generated_tokens"], 32)

    def test_bad_tokens_and_long_prompts_are_one_line(self):
        self.bad(1, "run", "-m", F32, "--tokens", "1,512")
        self.bad(1, "run", "-m", F32, "-p", PROMPT, "--ctx", "3")
        self.bad(1, "run", "-m", F32, "-p", PROMPT, "--pre", "no-such-pre-tokenizer")
        self.bad(1, "logits", "-m", F32, "--tokens", "1,512", "--out", self.folder / "x")
        self.bad(1, "logits", "-m", F32, "--tokens", "1,2,3", "--ctx", "2", "--out", self.folder / "x")
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_interrupt_ends_run_with_130(self):
        command = [TOOL, "run", "-m", F32, "-p", PROMPT, "-n", "0", "--ignore-eos", "--ctx", "200000", "-q"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            self.assertTrue(process.stdout.read(10))
            process.send_signal(signal.SIGINT)
            start = time.monotonic()
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait()
        self.assertLess(time.monotonic() - start, 5)
        self.assertEqual((process.returncode, err), (130, b""))
        self.assertTrue(out.endswith(b"\n"))

    def test_a_closed_pipe_ends_run(self):
        command = [TOOL, "run", "-m", F32, "-p", PROMPT, "-n", "0", "--ignore-eos", "--ctx", "200000", "-q"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            self.assertTrue(process.stdout.read(10))
            process.stdout.close()
            self.assertNotEqual(process.wait(timeout=20), 0)
        finally:
            process.kill()
            process.wait()
            process.stderr.close()

    # --- chat ------------------------------------------------------------------------------------------------------

    def test_chat_continues_and_resets(self):
        wanted = self.good("run", "-m", F32, "-p", PROMPT, "-n", "12", "--temp", "0")
        lines = f"{PROMPT}\n/reset\n{PROMPT}\nShe said\n/quit\nnever read\n".encode()
        out = self.good("chat", "-m", F32, "-n", "12", "--temp", "0", stdin=lines)
        replies = out.split(b"\n")
        self.assertEqual(replies[0], wanted.rstrip(b"\n"))
        self.assertEqual(replies[1], replies[0], "/reset starts over")
        self.assertEqual(len(replies), 4)
        alone = self.good("chat", "-m", F32, "-n", "12", "--temp", "0", stdin=b"She said\n")
        self.assertNotEqual(replies[2] + b"\n", alone, "a second turn continues the first one")

    def test_chat_prefix_and_suffix_surround_the_line(self):
        wanted = self.good("run", "-m", F32, "-p", PROMPT, "-n", "12", "--temp", "0")
        got = self.good(
            "chat", "-m", F32, "-n", "12", "--temp", "0", "--user-prefix", "Once ", "--user-suffix", " time", stdin=b"upon a\n"
        )
        self.assertEqual(got, wanted)

    # --- numbers ---------------------------------------------------------------------------------------------------

    def test_logits_are_the_golden_ones(self):
        out = self.folder / "rows.f32"
        for name in ("stories260K", "stories260K-Q8_0", "stories260K-Q4_0"):
            golden = json.loads((MODELS / f"{name}.json").read_text())
            exact = read_floats(MODELS / golden["logits_file"])
            n_vocab = golden["n_vocab"]
            for index, sequence in enumerate(golden["sequences"]):
                with self.subTest(name, sequence=index):
                    tokens = ",".join(map(str, sequence["tokens"]))
                    self.good("logits", "-m", MODELS / f"{name}.gguf", "--tokens", tokens, "--last", "4", "--kv", "f32", "--out", out)
                    got = read_floats(out)
                    want = exact[index * 4 * n_vocab : (index + 1) * 4 * n_vocab]
                    self.assertEqual(len(got), len(want))
                    errors = [abs(a - b) for a, b in zip(got, want)]
                    if name == "stories260K":
                        self.assertLessEqual(max(errors), 1e-3 * (max(want) - min(want)))
                    else:
                        rms = math.sqrt(sum(e * e for e in errors) / len(errors))
                        self.assertLessEqual(rms, 1.5 * golden["stock_rms_diff"])

    def test_logits_replace_the_file_and_keep_no_other(self):
        out = self.folder / "rows.f32"
        out.write_bytes(b"old")
        self.assertEqual(self.good("logits", "-m", F32, "--tokens", "1,403", "--out", out), b"")
        self.assertEqual(out.stat().st_size, 512 * 4)
        self.assertEqual(list(self.folder.iterdir()), [out])
        self.bad(1, "logits", "-m", F32, "--tokens", "1", "--out", self.folder / "none" / "x")
        self.bad(1, "logits", "-m", F32, "--tokens", "1", "--out", self.folder)
        self.assertEqual(list(self.folder.iterdir()), [out])
        self.assertEqual([p for p in self.folder.parent.iterdir() if p.name.startswith(self.folder.name + ".")], [])

    def test_perplexity_is_the_golden_one(self):
        for model in self.ppl["models"]:
            tolerance = 0.001 if Path(model["model"]).name == "stories260K.gguf" else 0.005
            for wanted in model["results"]:
                with self.subTest(model["model"], n_ctx=wanted["n_ctx"]):
                    got = self.good_json(
                        "perplexity", "-m", GOLDEN / model["model"], "-f", GOLDEN / "story.txt", "--ctx", wanted["n_ctx"],
                        "--kv", "f32", "--json",
                    )
                    self.assertEqual((got["chunks"], got["scored"]), (wanted["chunks"], wanted["scored"]))
                    self.assertEqual(got["n_tokens"], model["n_tokens"])
                    self.assertLessEqual(abs(got["perplexity"] / wanted["ppl_exact"] - 1), tolerance, got)
                    self.assertAlmostEqual(got["standard_error"], wanted["stderr"], delta=0.02)

    def test_perplexity_as_text_and_of_too_little_text(self):
        out = self.good("perplexity", "-m", F32, "-f", GOLDEN / "story.txt", "--ctx", "128", "--chunks", "2")
        self.assertRegex(out.decode(), r"^perplexity \d+\.\d+ \+/- \d+\.\d+ \(126 tokens scored in 2 chunks of 128\)\n$")
        path = self.folder / "short.txt"
        path.write_text("Once upon a time")
        self.bad(1, "perplexity", "-m", F32, "-f", path, says="too few")
        self.bad(1, "perplexity", "-m", F32, "-f", self.folder / "none.txt", says="none.txt")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: test_cli.py BUILD_DIR [unittest options]")
    TOOL = os.path.join(os.path.abspath(sys.argv.pop(1)), "llmo")
    if not os.access(TOOL, os.X_OK):
        sys.exit(f"test_cli.py: {TOOL} is not there; build it first")
    if not F32.exists():
        print(f"skipping what needs shared test data: {F32} is not there")
    unittest.main()
