/* CMSDK APB UARTs of the MPS2 board, receive side by interrupt into a ring. */
#ifndef UART_H
#define UART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UART_RING 1024u

typedef struct {
  uint32_t address, irq;
  uint8_t ring[UART_RING];
  volatile uint32_t head, tail; /* free running */
} uart_t;

void uart_init(uart_t *uart, uint32_t address, uint32_t irq);
void uart_irq(uart_t *uart);
size_t uart_read(uart_t *uart, uint8_t *data, size_t most);
bool uart_write(uart_t *uart, uint8_t byte);
bool uart_put(uart_t *uart, uint8_t byte); /* as if it had been received */

#endif
