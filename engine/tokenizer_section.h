/* SPDX-License-Identifier: MIT */
/* What the reader and the maker of a vocabulary section share; the layout is in tokenizer.h. */
#ifndef RWL_ENGINE_TOKENIZER_SECTION_H
#define RWL_ENGINE_TOKENIZER_SECTION_H

#define RWL_VOCABULARY_MAGIC 0x564c5752u /* "RWLV" */

enum {
    RWL_VOCABULARY_VERSION = 1,
    RWL_VOCABULARY_HEADER_BYTES = 20, /* magic to flags */
    RWL_VOCABULARY_HAS_IDS = 1,
    RWL_VOCABULARY_MAX_COUNT = 1 << 20, /* as the metadata's vocab_size */
};

#endif
