"""Every test here selects its backends anew."""

from selection import nothing_selected as nothing_selected
