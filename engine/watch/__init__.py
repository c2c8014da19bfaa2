"""Several cameras in one process, counted in turn by one counter: files, alerts, a page and MQTT for each of them."""
