"""Networks: how they are trained fast, all seeds at once, recorded and restored; backbones; references without any."""
