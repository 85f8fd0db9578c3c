"""MQTT 5 and 3.1.1 as far as a client of QoS 0 and 1 needs it: packets, their pure decoder, one connection."""
