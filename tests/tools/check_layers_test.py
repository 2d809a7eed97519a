#!/usr/bin/env python3
"""Shows that each rule of tools/check_layers.py can fail, and that what is right passes."""
import os
import subprocess
import sys
import tempfile
import unittest

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/check_layers.py")


def run_on(files):
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(text)
        done = subprocess.run([sys.executable, SCRIPT, root], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr


class CheckLayers(unittest.TestCase):
    def assert_refused(self, path, text, message):
        code, output = run_on({path: text})
        self.assertEqual(code, 1, output)
        self.assertIn(f"{path}:", output)
        self.assertIn(message, output)

    def assert_passes(self, path, text):
        code, output = run_on({path: text})
        self.assertEqual(code, 0, output)

    def test_arrow_against_the_layers_is_refused(self):
        self.assert_refused("pipeline/engine/a.h", '#include "pipeline/model/unet.h"\n',
                            "pipeline/engine may not include pipeline/model/unet.h")

    def test_client_library_does_not_see_the_pipeline(self):
        self.assert_refused("client/client.cc", '#include "pipeline/image/codec.h"\n', "client may not include")

    def test_client_program_may_use_the_codec(self):
        self.assert_passes("client/cli/sheet.cc", '#include "client/client.h"\n#include "pipeline/image/codec.h"\n')

    def test_server_does_not_see_the_model(self):
        self.assert_refused("server/admission.cc", '#include "pipeline/model/torch_model_runner.h"\n',
                            "server may not include")

    def test_main_is_the_composition_root(self):
        self.assert_passes("server/main.cc",
                           '#include "pipeline/model/torch_model_runner.h"\n#include "server/config.h"\n')

    def test_arrow_along_the_layers_passes(self):
        self.assert_passes("pipeline/engine/a.h", '#include "pipeline/image/image.h"\n#include <vector>\n')

    def test_torch_outside_the_model_is_refused(self):
        self.assert_refused("pipeline/engine/a.cc", "#include <ATen/core/Tensor.h>\n", "allowed in: pipeline/model")

    def test_whole_torch_is_refused_even_in_the_model(self):
        self.assert_refused("pipeline/model/a.cc", "#include <torch/torch.h>\n", "allowed in: nowhere")
        self.assert_refused("pipeline/model/a.cc", '#include "ATen/ATen.h"\n', "allowed in: nowhere")

    def test_grpc_in_the_engine_is_refused(self):
        self.assert_refused("pipeline/engine/a.cc", "#include <grpcpp/grpcpp.h>\n", "may not include grpcpp/grpcpp.h")

    def test_threads_in_the_engine_are_refused(self):
        self.assert_refused("pipeline/engine/a.cc", "#include <thread>\n", "may not include thread")
        self.assert_refused("pipeline/engine/a.cc", "void f() { std::jthread t; }\n", "starts a thread")

    def test_counting_cores_starts_no_thread(self):
        self.assert_passes("pipeline/model/a.cc", "int n = std::thread::hardware_concurrency();\n")

    def test_try_outside_the_guard_is_refused(self):
        self.assert_refused("server/a.cc", "void f() {\n  try {\n  } catch (...) {\n  }\n}\n", "a.cc:2: `try`")

    def test_try_in_the_guard_passes(self):
        self.assert_passes("pipeline/model/torch_guard.h", "void f() { try { } catch (...) { } }\n")

    def test_wall_clock_is_refused(self):
        self.assert_refused("server/a.cc", "auto t = absl::Now();\n", "take a Clock")

    def test_environment_is_refused(self):
        self.assert_refused("server/main.cc", 'auto v = std::getenv("X");\n', "reads the environment")
        self.assert_passes("server/config.cc", 'auto v = std::getenv("X");\n')

    def test_words_in_comments_and_literals_are_not_code(self):
        self.assert_passes("server/a.cc", '// try absl::Now()\n/* getenv\n try */\nauto s = "try // getenv";\n'
                                          'auto r = R"(try)";\nchar c = \'"\';\nint tries = 0;\n')

    def test_code_behind_a_comment_is_code(self):
        self.assert_refused("server/a.cc", "/* fine */ try {\n", "a.cc:1: `try`")

    def test_long_files_are_refused(self):
        self.assert_refused("server/a.h", "\n" * 151, "the wall is 150")
        self.assert_refused("server/a.cc", "\n" * 601, "the wall is 600")

    def test_above_the_target_is_only_mentioned(self):
        code, output = run_on({"server/a.h": "\n" * 121})
        self.assertEqual(code, 0)
        self.assertIn("server/a.h: 121 lines, above the target of 120", output)

    def test_an_empty_tree_is_an_error(self):
        code, output = run_on({"pipeline/README.md": "nothing\n"})
        self.assertEqual(code, 1)
        self.assertIn("no C++ files", output)


if __name__ == "__main__":
    unittest.main()
