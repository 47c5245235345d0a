import hydra
from codes import resolvers, schema
schema.register(); resolvers.register()
@hydra.main(config_path="conf", config_name="tune")
def main(cfg):
    from omegaconf import OmegaConf
    print(OmegaConf.to_object(cfg))
if __name__=="__main__": main()
