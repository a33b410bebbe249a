"""What a person sees: panels, settings, PNG Info, Extras."""
