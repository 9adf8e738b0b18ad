#include "uart.h"

#include "cortexm.h"

#define DATA(u) REG((u)->address)
#define STATE(u) REG((u)->address + 4u)
#define CTRL(u) REG((u)->address + 8u)
#define INTCLEAR(u) REG((u)->address + 12u)
#define BAUDDIV(u) REG((u)->address + 16u)
#define TX_FULL 1u
#define RX_FULL 2u
#define RX_ON 0xBu /* transmit and receive enabled, receive interrupt */
#define RX_QUIET 0x3u

void uart_init(uart_t *uart, uint32_t address, uint32_t irq) {
  uart->address = address;
  uart->irq = irq;
  BAUDDIV(uart) = 27; /* 25 MHz / 921600 */
  CTRL(uart) = RX_ON;
  cortexm_irq_enable(irq, 0x80);
}

/* A full ring leaves the byte where it is: the emulator then holds the sender back, as no real UART could. */
void uart_irq(uart_t *uart) {
  INTCLEAR(uart) = 2;
  while ((STATE(uart) & RX_FULL) != 0u) {
    if (!uart_put(uart, 0)) {
      CTRL(uart) = RX_QUIET;
      return;
    }
    uart->ring[(uart->head - 1u) % UART_RING] = (uint8_t)DATA(uart);
  }
}

bool uart_put(uart_t *uart, uint8_t byte) {
  if ((uart->head - uart->tail) == UART_RING) {
    return false;
  }
  uart->ring[uart->head % UART_RING] = byte;
  uart->head++;
  return true;
}

size_t uart_read(uart_t *uart, uint8_t *data, size_t most) {
  size_t taken = 0;
  while ((taken < most) && (uart->tail != uart->head)) {
    data[taken] = uart->ring[uart->tail % UART_RING];
    uart->tail++;
    taken++;
  }
  if (CTRL(uart) != RX_ON) {
    __asm volatile("cpsid i" ::: "memory");
    CTRL(uart) = RX_ON;
    uart_irq(uart);
    __asm volatile("cpsie i" ::: "memory");
  }
  return taken;
}

bool uart_write(uart_t *uart, uint8_t byte) {
  if ((STATE(uart) & TX_FULL) != 0u) {
    return false;
  }
  DATA(uart) = byte;
  return true;
}
