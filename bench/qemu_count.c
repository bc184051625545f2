/* SPDX-License-Identifier: MIT */
/*
 * A plugin for qemu's user emulation that counts the instructions a program executes and prints
 * the number to standard error at its end. bench/instructions.sh compiles it. What is declared here
 * is from qemu-plugin.h, which no package of Debian has, interface 1: QEMU 7 and 8.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

struct qemu_plugin_tb;
enum { NO_REGISTERS };
typedef void translate_fn(uint64_t id, struct qemu_plugin_tb *block);
typedef void execute_fn(unsigned cpu, void *data);
typedef void exit_fn(uint64_t id, void *data);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, translate_fn *callback);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, execute_fn *callback,
                                          int flags, void *data);
void qemu_plugin_register_atexit_cb(uint64_t id, exit_fn *callback, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);

extern int qemu_plugin_version;
int qemu_plugin_version = 1;

static uint64_t count; /* of one thread */

static void on_execute(unsigned cpu, void *data)
{
    (void)cpu;
    count += (uintptr_t)data;
}

static void on_translate(uint64_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    const uintptr_t instructions = qemu_plugin_tb_n_insns(block);
    qemu_plugin_register_vcpu_tb_exec_cb(block, on_execute, NO_REGISTERS, (void *)instructions);
}

static void on_exit_of_program(uint64_t id, void *data)
{
    (void)id;
    (void)data;
    fprintf(stderr, "instructions: %" PRIu64 "\n", count);
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_atexit_cb(id, on_exit_of_program, NULL);
    return 0;
}
