/* SPDX-License-Identifier: MIT */
/* The table as text and as JSON. */
#include "bench/baseline.h"
#include "bench/blas.h"
#include "bench/table.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/state.h"

#include <stdio.h>
#include <string.h>

/* Text within a JSON string. */
static void print_escaped(const char *text)
{
    for (; *text; text++)
        if (*text == '"' || *text == '\\')
            printf("\\%c", *text);
        else if ((unsigned char)*text < 32)
            printf("\\u%04x", (unsigned)*text);
        else
            putchar(*text);
}

static void print_member(const char *name, const char *text)
{
    printf("\"%s\":\"", name);
    print_escaped(text);
    printf("\",");
}

static void print_json_row(const struct rwl_table_row *row)
{
    printf("{\"name\":\"%s\",\"unit\":\"%s\"", row->of->name, row->of->unit);
    if (row->absent[0]) {
        printf(",\"absent\":\"");
        print_escaped(row->absent);
        printf("\"}");
        return;
    }
    printf(",\"median\":%.6g,\"low\":%.6g,\"high\":%.6g", row->value.median, row->value.low,
           row->value.high);
    if (row->bytes > 0)
        printf(",\"step_bytes\":%.0f,\"of_bandwidth\":%.4f,\"of_bandwidth_low\":%.4f,"
               "\"of_bandwidth_high\":%.4f",
               row->bytes, row->ratio.median, row->ratio.low, row->ratio.high);
    if (row->factor > 0)
        printf(",\"factor\":%.4f,\"factor_is\":\"%s\"", row->factor, row->of->factor_is);
    printf("}");
}

static void print_json(const struct rwl_table *table, const struct rwl_table_result *result,
                       const char *machine)
{
    const struct rwl_metadata *metadata = rwl_model_get_metadata(table->model);
    const struct rwl_hparams *sizes = &metadata->hparams;
    printf("{");
    print_member("machine", machine);
    print_member("kernels", rwl_engine_kernels(table->engine));
    print_member("model", metadata->name);
    print_member("compression", metadata->compression);
    print_member("weights", table->run.weight_bytes.data);
    if (rwl_blas_name())
        print_member("blas", rwl_blas_name());
    printf("\"threads\":%u,\"chunk\":%u,\"prefill\":%lld,\"prompt\":%lld,\"tokens\":%lld,"
           "\"repeat\":%lld,\"layers\":%u,\"width\":%u,\"ffn_width\":%u,\"vocab_size\":%u,"
           "\"file_bytes\":%llu,\"state_bytes\":%zu,\"scratch_bytes\":%zu,",
           rwl_engine_threads(table->engine), table->chunk, (long long)table->options.prefill,
           (long long)table->options.prompt, (long long)table->options.tokens,
           (long long)table->options.repeat, sizes->layers, sizes->width, sizes->ffn_width,
           sizes->vocab_size,
           (unsigned long long)rwl_model_file_size(rwl_model_get_file(table->model)),
           rwl_state_bytes(table->model), rwl_engine_scratch_bytes(table->engine));
    printf("\"bandwidth\":{\"median\":%.0f,\"low\":%.0f,\"high\":%.0f},\"seconds\":%.1f,",
           result->bandwidth.median, result->bandwidth.low, result->bandwidth.high,
           result->seconds);
    if (table->baseline)
        printf("\"baseline_difference\":%.3g,", table->baseline_difference);
    printf("\"rows\":[");
    for (size_t i = 0; i < result->count; i++) {
        printf("%s", i ? ",\n" : "\n");
        print_json_row(&result->rows[i]);
    }
    printf("\n]}\n");
}

static void print_row(const struct rwl_table_row *row)
{
    if (row->absent[0]) {
        printf("%-17s %10s  %s\n", row->of->name, "-", row->absent);
        return;
    }
    printf("%-17s %10.4g %10.4g %10.4g  %-9s", row->of->name, row->value.median, row->value.low,
           row->value.high, row->of->unit);
    if (row->bytes > 0)
        printf(" %9.1f %10.3f", row->bytes / 1e6, row->ratio.median);
    else if (row->factor > 0)
        printf(" %9s %10s", "", "");
    if (row->factor > 0)
        printf("  %5.2f %s", row->factor, row->of->factor_is);
    printf("\n");
}

static void print_text(const struct rwl_table *table, const struct rwl_table_result *result,
                       const char *machine)
{
    const struct rwl_metadata *metadata = rwl_model_get_metadata(table->model);
    const struct rwl_hparams *sizes = &metadata->hparams;
    const double mib = 1 << 20;
    printf("machine    %s\n", machine);
    printf("model      %s, %s, %u layers, width %u, FFN %u, vocabulary %u\n", metadata->name,
           rwl_arch_name(sizes->arch), sizes->layers, sizes->width, sizes->ffn_width,
           sizes->vocab_size);
    printf("           file %.1f MiB, state %.2f MiB, scratch %.2f MiB; compression: %s\n",
           (double)rwl_model_file_size(rwl_model_get_file(table->model)) / mib,
           (double)rwl_state_bytes(table->model) / mib,
           (double)rwl_engine_scratch_bytes(table->engine) / mib, metadata->compression);
    printf("kernels    %s, %u threads, %u tokens in a step, weights in memory: %s\n",
           rwl_engine_kernels(table->engine), rwl_engine_threads(table->engine), table->chunk,
           strcmp(table->run.weight_bytes.data, "0") == 0 ? "as the file asks"
                                                          : table->run.weight_bytes.data);
    printf("bandwidth  %.1f GB/s (%.1f to %.1f)\n", result->bandwidth.median / 1e9,
           result->bandwidth.low / 1e9, result->bandwidth.high / 1e9);
    if (table->baseline)
        printf("baseline   f32, %s; its logits differ by %.2g of the largest\n",
               rwl_blas_name() ? rwl_blas_name() : "plain loops", table->baseline_difference);
    printf("measured   %lld samples a row in %.0f s: medians and quartiles\n\n",
           (long long)table->options.repeat, result->seconds);
    printf("%-17s %10s %10s %10s  %-9s %9s %10s  %s\n", "row", "median", "low", "high", "unit",
           "MB a step", "of limit", "factor");
    for (size_t i = 0; i < result->count; i++)
        print_row(&result->rows[i]);
}

void rwl_table_print(const struct rwl_table *table, const struct rwl_table_result *result)
{
    char machine[256];
    rwl_bench_machine(machine, sizeof machine);
    (table->run.json ? print_json : print_text)(table, result, machine);
}
