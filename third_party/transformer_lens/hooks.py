"""What TransformerLens calls the sites of a model: the aliases of `models/sites.py`, which are those of HookedTransformer.

HookedEncoder has the embeddings and the head in modules of their own, and hooks the stream before its post-norms: its
`hook_resid_post` is no site here, and what goes on to the next layer is its `hook_normalized_resid_post`.
"""

from interp_jax.models.config import TransformerConfig
from interp_jax.models.sites import sites

ENCODER = {
    "embed": "embed.hook_embed",
    "pos_embed": "embed.hook_pos_embed",
    "blocks.resid_mid": "",  # its hook_resid_mid is not normalised yet
    "blocks.resid_post": "blocks.{l}.hook_normalized_resid_post",
    "ln_final.scale": "mlm_head.ln.hook_scale",
    "ln_final.normalized": "mlm_head.ln.hook_normalized",
}


def hooks(cfg: TransformerConfig) -> dict[str, str]:
    """The hook of every site that TransformerLens has in such a model, `{l}` standing for the layer.

    Keys and values have shape [B P G E] there as here; scores are masked there (-inf) and not here; position vectors are
    repeated over the batch there.
    """
    named = {site.name: site.alias for site in sites(cfg)}
    if cfg.placement == "post":
        named |= {site: hook for site, hook in ENCODER.items() if site in named}
    return {site: hook for site, hook in named.items() if hook}
