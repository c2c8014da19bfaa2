"""The diffusion process: schedule, noise, denoising loop and the maps that it works on."""
