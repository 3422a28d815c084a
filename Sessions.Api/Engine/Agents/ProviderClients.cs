using System.ClientModel;
using System.ClientModel.Primitives;
using Microsoft.Extensions.AI;
using OpenAI;
using Sessions.Api.Engine.Agents.OpenAi;
#if !NATIVE
using Sessions.Api.Engine.Agents.Anthropic;
using Sessions.Api.Engine.Agents.Ollama;
#endif

#pragma warning disable OPENAI001 // Marked as experimental; the version is pinned, and tests hold it to what is used here.
namespace Sessions.Api.Engine.Agents;

/// <summary>The providers, each by its own library, behind the seam of Microsoft.Extensions.AI. Another one is a case here.</summary>
internal static class ProviderClients
{
    /// <summary>Makes the client of an agent that is not built in.</summary>
    public static IChatClient Connect(string type, AgentSettings settings, IConfiguration configuration, IHttpClientFactory http)
    {
        var connections = http.CreateClient(AgentCatalog.HttpClientName(type));
        var key = settings.ApiKey is { Length: > 0 } own ? own
            : KeyVariable(settings) is { } common && configuration[common] is { Length: > 0 } given ? given

            // Local servers (Ollama, vLLM, llama.cpp) ask for no key, but the header must hold something.
            : "none";
        return settings switch
        {
            { Provider: AgentProvider.Openai, Api: AgentApi.Responses } =>
                new ProviderAnswersClient(new ResponsesChatClient(
                    OpenAi(settings, key, connections).GetResponsesClient().AsIChatClient(settings.Model), settings.KeepReasoning)),
#if !NATIVE
            { Provider: AgentProvider.Anthropic } => new ProviderAnswersClient(AnthropicChatClient.Create(settings, key, connections)),
            { Provider: AgentProvider.Ollama } => new ProviderAnswersClient(OllamaChatClient.Create(settings, connections)),
#endif
            _ => new OpenAiChatClient(connections, settings, key),
        };
    }

    /// <summary>The environment variable of the key, where a provider's own endpoint is asked: a key is for those whose it is.</summary>
    public static string? KeyVariable(AgentSettings settings) => settings.Provider switch
    {
        AgentProvider.Openai when IsAt(settings.Endpoint, "api.openai.com") => "OPENAI_API_KEY",
        AgentProvider.Anthropic when IsAt(settings.Endpoint, "api.anthropic.com") => "ANTHROPIC_API_KEY",
        _ => null,
    };

    /// <summary>Why a provider can't be had in this build, if it can't.</summary>
    public static string? FaultOf(AgentProvider provider)
    {
#if NATIVE
        // Their libraries write JSON by reflection, which a native build does not have.
        return provider is AgentProvider.Anthropic or AgentProvider.Ollama
            ? $"{ServiceDefaults.Settings.NameOf(provider)} is not part of a native build; use one of another kind, "
                + "or the provider openai with an endpoint that speaks as OpenAI's"
            : null;
#else
        _ = provider;
        return null;
#endif
    }

    private static OpenAIClient OpenAi(AgentSettings settings, string key, HttpClient http)
    {
        var options = new OpenAIClientOptions
        {
            Endpoint = settings.Endpoint,
            Transport = new HttpClientPipelineTransport(http),

            // Time and repeats are the HTTP client's.
            NetworkTimeout = Timeout.InfiniteTimeSpan,
            RetryPolicy = new ClientRetryPolicy(0),
        };
        return new OpenAIClient(new ApiKeyCredential(key), options);
    }

    private static bool IsAt(Uri? endpoint, string host) => endpoint is null || (endpoint.Scheme == Uri.UriSchemeHttps
        && (endpoint.Host == host || endpoint.Host.EndsWith($".{host}", StringComparison.Ordinal)));
}
