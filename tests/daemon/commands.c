/* SPDX-License-Identifier: MIT */
/*
 * Exact match of the demo model on held-out commands, through a daemon: COMMANDS.jsonl [COUNT
 * [PERCENT]]. Starts the daemon itself (harness.h), generates greedily up to the next blank line
 * for the first COUNT prompts (default: all), several at once, and prints how many answers are
 * right. Exits with 1 if they are less than PERCENT (default: 0).
 */
#include "tests/daemon/harness.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AT_ONCE = 8 };

static struct daemon server;
static struct client client;

struct command {
    json_t *json;
    uint32_t id;
    bool right;
};

static void ask(struct command *command)
{
    struct rwl_str stop = text("\n\n");
    struct rwl_generate_params params =
        greedy("", json_string_value(json_object_get(command->json, "prompt")));
    params.stop = (struct rwl_str_list){ &stop, 1 };
    params.max_tokens = 160;
    command->id = client_send(&client, RWL_METHOD_GENERATE, &params);
}

static void compare(struct command *command)
{
    struct rwl_generate_result result;
    const char *answer = json_string_value(json_object_get(command->json, "answer"));
    int code = client_result(&client, command->id, RWL_METHOD_GENERATE, &result);
    command->right = code == 0 && is_text(result.text, answer);
    if (!command->right)
        printf("not right: %s\n  gives: %s\n", answer, code ? "an error" : result.text.data);
}

static size_t load(const char *name, size_t most, struct command **ret_commands)
{
    char *line = NULL;
    size_t capacity = 0, count = 0, room = 0;
    FILE *file = fopen(name, "re");
    ck_assert_msg(file != NULL, "%s cannot be opened", name);
    while (count < most && getline(&line, &capacity, file) > 0) {
        if (count == room) {
            room = room ? room * 2 : 128;
            *ret_commands = realloc(*ret_commands, room * sizeof **ret_commands);
            ck_assert_ptr_nonnull(*ret_commands);
        }
        json_t *json = json_loads(line, 0, NULL);
        ck_assert_ptr_nonnull(json);
        (*ret_commands)[count++] = (struct command){ .json = json };
    }
    free(line);
    fclose(file);
    return count;
}

static const char *path;
static size_t limit = SIZE_MAX;
static double wanted;

START_TEST(exact_match)
{
    struct command *commands = NULL;
    size_t right = 0, count = load(path, limit, &commands);
    ck_assert_uint_gt(count, 0);
    daemon_start(&server, NULL);
    client_open(&client, &server);
    for (size_t i = 0; i < count + AT_ONCE; i++) {
        if (i >= AT_ONCE && i - AT_ONCE < count)
            compare(&commands[i - AT_ONCE]);
        if (i < count)
            ask(&commands[i]);
    }
    for (size_t i = 0; i < count; i++) {
        right += commands[i].right;
        json_decref(commands[i].json);
    }
    free(commands);
    client_close(&client);
    daemon_finish(&server);
    double percent = 100 * (double)right / (double)count;
    printf("exact match %.1f %% of %zu commands\n", percent, count);
    ck_assert_double_ge(percent, wanted);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc < 2) {
        fputs("usage: commands COMMANDS.jsonl [COUNT [PERCENT]]\n", stderr);
        return 2;
    }
    path = argv[1];
    if (argc > 2)
        limit = strtoul(argv[2], NULL, 10);
    if (argc > 3)
        wanted = strtod(argv[3], NULL);
    TCase *tests = tcase_create("commands");
    tcase_add_test(tests, exact_match);
    return run_tests("commands", tests);
}
