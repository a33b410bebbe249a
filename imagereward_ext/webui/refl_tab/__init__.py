"""The tab "ReFL": trains a LoRA against the WebUI's checkpoint. It calls the engine as a process and trains nothing."""
