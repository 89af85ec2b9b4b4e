"""What effects amount to: mediation, intervals, significance, size."""
