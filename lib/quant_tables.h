/* The grids of the IQ types, see quant_tables.c. Only quant_unpack.c and the tests need them. */
#ifndef LLMOI_QUANT_TABLES_H
#define LLMOI_QUANT_TABLES_H

#include <stdint.h>

extern const uint16_t llmoi_grid_iq2_xxs[256];
extern const uint16_t llmoi_grid_iq2_xs[512];
extern const uint16_t llmoi_grid_iq2_s[1024];
extern const uint16_t llmoi_grid_iq3_xxs[256];
extern const uint16_t llmoi_grid_iq3_s[512];
extern const uint16_t llmoi_grid_iq1[2048]; /* IQ1_S and IQ1_M */

#endif
