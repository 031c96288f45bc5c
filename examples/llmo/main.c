/* llmo, the command-line tool of libllmoffload: finds the command and runs it. */
#include <string.h>

#include "tool.h"

typedef struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} command;

static const command commands[] = {
    {"info", command_info, "what a model file holds"},
    {"plan", command_plan, "which part of a model runs where, and how many bytes that takes"},
    {"devices", command_devices, "the CPU and the GPUs that can be used"},
    {"run", command_run, "continue a prompt"},
    {"chat", command_chat, "talk to a model, turn by turn"},
    {"tokenize", command_tokenize, "text to token ids"},
    {"detokenize", command_detokenize, "token ids to text"},
    {"logits", command_logits, "the raw output of a model after given tokens, to a file"},
    {"perplexity", command_perplexity, "how well a model predicts a text"},
};

static int help(void) {
    printf("Usage: llmo COMMAND [options]\n\nRuns GGUF language models split between GPU and CPU.\n\nCommands:\n");
    for (size_t i = 0; i < TOOL_COUNT(commands); i++) printf("  %-12s %s\n", commands[i].name, commands[i].summary);
    printf("\n  llmo COMMAND --help   every option of a command\n"
           "  llmo --version        versions of the tool and the library\n\n"
           "Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted.\n");
    return tool_finish(TOOL_OK);
}

static int version(void) {
    printf("llmo %d.%d.%d, libllmoffload %s (ABI %u)\n", LLMO_VERSION_MAJOR, LLMO_VERSION_MINOR, LLMO_VERSION_PATCH,
           llmo_version(), (unsigned)llmo_abi_version());
    return tool_finish(TOOL_OK);
}

int main(int argc, char **argv) {
    if (argc < 2) return tool_usage("no command given");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) return help();
    if (strcmp(argv[1], "--version") == 0) return version();
    if (llmo_abi_version() != LLMO_ABI_MAJOR) {
        return tool_fail("this tool needs ABI %d of libllmoffload, the library found is %s (ABI %u)", LLMO_ABI_MAJOR,
                         llmo_version(), (unsigned)llmo_abi_version());
    }
    for (size_t i = 0; i < TOOL_COUNT(commands); i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        tool_set_command(commands[i].name);
        return commands[i].run(argc - 1, argv + 1);
    }
    return tool_usage("unknown command '%s'", argv[1]);
}
